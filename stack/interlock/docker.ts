import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import * as v from 'valibot';

/** Deadline of a snapshot. */
const READ_MS_MAX = 5_000;
/** At about 5 KB per service, more than a Swarm has. */
const RESPONSE_BYTES_MAX = 64 * 1024 * 1024;

/** The part of a service that routes depend on. */
export interface Service {
  readonly id: string;
  readonly name: string;
  /** RFC 3339, from Docker. */
  readonly createdAt: string;
  /** The stack of the service. */
  readonly stack?: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Ids. */
  readonly networks: readonly string[];
  readonly secrets: readonly { readonly id: string; readonly name: string; readonly file: string }[];
  readonly hasVirtualIp: boolean;
  readonly tasksWanted: number;
}

/** Snapshot of a Swarm; `networks` are names by id. */
export interface Swarm {
  readonly services: readonly Service[];
  readonly networks: ReadonlyMap<string, string>;
}

const list = <T extends v.GenericSchema>(item: T) => v.nullish(v.array(item), []);
const text = v.string();

const ServiceResponse = v.object({
  ID: text,
  CreatedAt: text,
  Spec: v.object({
    Name: text,
    Labels: v.nullish(v.record(text, text), {}),
    TaskTemplate: v.object({
      Networks: list(v.object({ Target: text })),
      ContainerSpec: v.optional(
        v.object({
          Secrets: list(
            v.object({
              SecretID: text,
              SecretName: text,
              File: v.nullish(v.object({ Name: text })),
            }),
          ),
        }),
      ),
    }),
    Networks: list(v.object({ Target: text })),
    EndpointSpec: v.nullish(v.object({ Mode: v.optional(text) })),
  }),
  ServiceStatus: v.nullish(v.object({ DesiredTasks: v.number() })),
});
const ServicesResponse = list(ServiceResponse);
const NetworksResponse = list(v.object({ Id: text, Name: text }));

/** Docker does not respond, or its response is malformed. */
export class DockerError extends Error {
  override readonly name = 'DockerError';
}

/**
 * Reads a Swarm through the API of one of its managers. Requests carry no version, so a daemon responds in its own; the fields
 * read here have not changed since 1.41 (Docker 20.10).
 */
export class DockerApi {
  readonly #target: { readonly socketPath: string } | { readonly host: string; readonly port: string };

  /** @param url `http://host:port`, or `unix:///path` */
  constructor(url: string) {
    const { protocol, hostname, port, pathname } = new URL(url);
    this.#target =
      protocol === 'unix:' ? { socketPath: pathname } : { host: hostname, port: port === '' ? '80' : port };
  }

  /** Returns a snapshot. @throws DockerError when the response is late or malformed */
  async read(): Promise<Swarm> {
    const signal = AbortSignal.timeout(READ_MS_MAX);
    const [services, networks] = await Promise.all([
      this.#get('/services?status=true', ServicesResponse, signal),
      this.#get(`/networks?filters=${encodeURIComponent('{"scope":["swarm"]}')}`, NetworksResponse, signal),
    ]);
    return {
      services: services.map(toService),
      networks: new Map(networks.map(({ Id, Name }) => [Id, Name])),
    };
  }

  /**
   * Calls back on every event of a service or a network, until the stream ends. A snapshot shows what changed.
   *
   * @throws DockerError when the stream breaks or does not start
   */
  async watch(onChange: () => void, signal: AbortSignal): Promise<void> {
    const filters = encodeURIComponent('{"scope":["swarm"],"type":["service","network"]}');
    const response = await this.#request(`/events?filters=${filters}`, signal);
    // Changes before the stream began are in the next snapshot.
    onChange();
    try {
      for await (const _event of response) onChange();
    } catch (error) {
      throw new DockerError(`Docker's event stream broke: ${reasonOf(error)}`);
    }
  }

  async #get<T extends v.GenericSchema>(
    path: string,
    schema: T,
    signal: AbortSignal,
  ): Promise<v.InferOutput<T>> {
    const response = await this.#request(path, signal);
    try {
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of response as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > RESPONSE_BYTES_MAX) throw new Error(`more than ${RESPONSE_BYTES_MAX} bytes`);
        chunks.push(chunk);
      }
      return v.parse(schema, JSON.parse(Buffer.concat(chunks).toString('utf8')));
    } catch (error) {
      throw new DockerError(`Docker's response is malformed: ${reasonOf(error)}`);
    }
  }

  #request(path: string, signal: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const fail = (reason: string): void => reject(new DockerError(`Docker does not respond: ${reason}`));
      const sent: ClientRequest = request({ ...this.#target, path, signal, agent: false });
      sent.on('error', (error) => fail(reasonOf(error)));
      sent.on('response', (response) => {
        if (response.statusCode === 200) return resolve(response);
        response.resume();
        fail(`status ${response.statusCode}`);
      });
      sent.end();
    });
  }
}

function toService({ ID, CreatedAt, Spec, ServiceStatus }: v.InferOutput<typeof ServiceResponse>): Service {
  const stack = Spec.Labels['com.docker.stack.namespace'];
  const { Networks, ContainerSpec } = Spec.TaskTemplate;
  return {
    id: ID,
    name: Spec.Name,
    createdAt: CreatedAt,
    ...(stack !== undefined && { stack }),
    labels: Spec.Labels,
    networks: [...Networks, ...Spec.Networks].map(({ Target }) => Target),
    secrets: (ContainerSpec?.Secrets ?? []).flatMap(({ SecretID, SecretName, File }) =>
      File ? [{ id: SecretID, name: SecretName, file: File.Name }] : [],
    ),
    hasVirtualIp: Spec.EndpointSpec?.Mode !== 'dnsrr',
    tasksWanted: ServiceStatus?.DesiredTasks ?? 0,
  };
}

/** Node's errors for several addresses have a code and no message. */
function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return message || code || String(error);
}
