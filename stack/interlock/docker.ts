import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import * as v from 'valibot';

/** A snapshot that takes longer is given up. */
const READ_MS_MAX = 5_000;
/** Some 5 KB a service: more services than one Swarm has. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

/** What the controller needs to know of a service. */
export interface Service {
  readonly id: string;
  readonly name: string;
  /** RFC 3339, from Docker. */
  readonly createdAt: string;
  /** The stack that it belongs to. */
  readonly stack?: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Ids. */
  readonly networks: readonly string[];
  readonly secrets: readonly { readonly id: string; readonly name: string; readonly file: string }[];
  readonly hasVirtualIp: boolean;
  readonly tasksWanted: number;
}

/** The Swarm at one moment; `networks` are names by id. */
export interface Swarm {
  readonly services: readonly Service[];
  readonly networks: ReadonlyMap<string, string>;
}

const list = <T extends v.GenericSchema>(item: T) => v.nullish(v.array(item), []);
const text = v.string();

const ServiceAnswer = v.object({
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
const ServicesAnswer = list(ServiceAnswer);
const NetworksAnswer = list(v.object({ Id: text, Name: text }));

/** Docker does not answer, or not as it should. */
export class DockerFault extends Error {
  override readonly name = 'DockerFault';
}

/**
 * Reads a Swarm through the API of one of its managers. No version is asked for, so that every daemon answers in its own;
 * what is read here has been the same since 1.41 (Docker 20.10).
 */
export class DockerApi {
  readonly #target: { readonly socketPath: string } | { readonly host: string; readonly port: string };

  /** @param url `http://host:port`, or `unix:///path` */
  constructor(url: string) {
    const { protocol, hostname, port, pathname } = new URL(url);
    this.#target =
      protocol === 'unix:' ? { socketPath: pathname } : { host: hostname, port: port === '' ? '80' : port };
  }

  /** @throws DockerFault when the answer does not come in time or cannot be understood */
  async read(): Promise<Swarm> {
    const signal = AbortSignal.timeout(READ_MS_MAX);
    const [services, networks] = await Promise.all([
      this.#get('/services?status=true', ServicesAnswer, signal),
      this.#get(`/networks?filters=${encodeURIComponent('{"scope":["swarm"]}')}`, NetworksAnswer, signal),
    ]);
    return {
      services: services.map(toService),
      networks: new Map(networks.map(({ Id, Name }) => [Id, Name])),
    };
  }

  /**
   * Calls back whenever Docker says that a service or a network changed; what exactly, a snapshot tells.
   *
   * @returns when the stream ends
   * @throws DockerFault when it breaks or does not begin
   */
  async watch(onChange: () => void, signal: AbortSignal): Promise<void> {
    const filters = encodeURIComponent('{"scope":["swarm"],"type":["service","network"]}');
    const answer = await this.#ask(`/events?filters=${filters}`, signal);
    // From now on changes are told; those before are in the next snapshot.
    onChange();
    try {
      for await (const _event of answer) onChange();
    } catch (error) {
      throw new DockerFault(`Docker's events broke off: ${reasonOf(error)}`);
    }
  }

  async #get<T extends v.GenericSchema>(
    path: string,
    schema: T,
    signal: AbortSignal,
  ): Promise<v.InferOutput<T>> {
    const answer = await this.#ask(path, signal);
    try {
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of answer as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES_MAX) throw new Error(`more than ${ANSWER_BYTES_MAX} bytes`);
        chunks.push(chunk);
      }
      return v.parse(schema, JSON.parse(Buffer.concat(chunks).toString('utf8')));
    } catch (error) {
      throw new DockerFault(`Docker's answer cannot be read: ${reasonOf(error)}`);
    }
  }

  #ask(path: string, signal: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const refuse = (reason: string): void => reject(new DockerFault(`Docker does not answer: ${reason}`));
      const sent: ClientRequest = request({ ...this.#target, path, signal, agent: false });
      sent.on('error', (error) => refuse(reasonOf(error)));
      sent.on('response', (answer) => {
        if (answer.statusCode === 200) return resolve(answer);
        answer.resume();
        refuse(`status ${answer.statusCode}`);
      });
      sent.end();
    });
  }
}

function toService({ ID, CreatedAt, Spec, ServiceStatus }: v.InferOutput<typeof ServiceAnswer>): Service {
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

/** Node's errors about several addresses have a code and no message. */
function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return message || code || String(error);
}
