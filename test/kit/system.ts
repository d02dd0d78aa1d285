import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '#dev/root.ts';
import { VOTE_NODE_FLAGS } from '#runtime/node-flags.ts';
import { freePort, startProgram, type TestProcess, untilReady } from './process.ts';

const POLLS_FILE = join(ROOT, 'stack/polls.json');
/** The signing key shared by the vote handlers of a test. */
export const VOTER_KEY = randomBytes(32).toString('hex');

/** A process started from its bundle, with the addresses it listens on. */
export interface TestService extends TestProcess {
  readonly url: string;
  readonly adminUrl: string;
  readonly port: number;
}

export type BundleName = 'vote' | 'issuer' | 'worker' | 'results' | 'dashboard';

export interface ServiceOptions {
  readonly bundle: BundleName;
  /** Added to `PORT`, `ADMIN_PORT` and, of a worker, `POLLS_FILE`, which it may override. */
  readonly env: Readonly<Record<string, string>>;
  /** The folder of the log. */
  readonly folder: string;
  /** The name of the log without `.log`; the bundle's name by default. */
  readonly name?: string;
}

/** Starts a bundle on free ports and waits until it is ready. */
export async function startService(options: ServiceOptions): Promise<TestService> {
  const { adminPort, ...service } = await spawnService(options);
  await untilReady(service, adminPort);
  return service;
}

/** Starts a bundle on free ports without waiting until it is ready. */
export async function spawnService({ bundle, env, folder, name = bundle }: ServiceOptions) {
  const [port, adminPort] = [await freePort(), await freePort()];
  const service = startBundle(
    bundle,
    {
      PORT: String(port),
      ADMIN_PORT: String(adminPort),
      ...(bundle === 'worker' && { POLLS_FILE }),
      ...env,
    },
    join(folder, `${name}.log`),
  );
  return {
    ...service,
    port,
    adminPort,
    url: `http://127.0.0.1:${port}`,
    adminUrl: `http://127.0.0.1:${adminPort}`,
  };
}

/**
 * Starts a bundle with the Node flags of production.
 *
 * @param env the whole environment, except for PATH and TZ
 * @param log path of the file that receives the output
 * @throws Error when the bundle is not built
 */
export function startBundle(bundle: BundleName, env: Record<string, string>, log: string): TestProcess {
  const script = join(ROOT, `dist/${bundle}.mjs`);
  if (!existsSync(script)) throw new Error(`${script} is missing; run: node handlers/build.ts`);
  const flags = bundle === 'vote' ? VOTE_NODE_FLAGS : [];
  return startProgram(process.execPath, [...flags, script], { env, log });
}

/** Returns the settings of a vote handler that depend on its node. */
export function voteEnv(node: string, socket: string): Record<string, string> {
  return { TURNOUT_NODE: node, REDIS_URL: socket, VOTER_KEY };
}
