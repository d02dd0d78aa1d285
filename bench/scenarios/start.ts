import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { ROOT } from '#dev/root.ts';
import { freePort, scratchFolder, type TestProcess } from '#kit/process.ts';
import { type BundleName, startBundle, voteEnv } from '#kit/system.ts';
import { readResidentBytes } from '../measure/cpu.ts';
import { Testbed, type TestbedPostgres } from '../testbed/testbed.ts';
import { interleave, type Scenario } from './scenario.ts';

const POLLS_FILE = join(ROOT, 'stack/polls.json');
const READY_MS_MAX = 20_000;
/** How often a process that starts is asked; the answer is late by half of this on average. */
const ASK_INTERVAL_MS = 2;
const BYTES_PER_MEGABYTE = 2 ** 20;

interface Bundle {
  readonly name: BundleName;
  readonly env: (redis: string, postgres: TestbedPostgres) => Record<string, string>;
  /** Whether it serves. */
  readonly ask: (port: number, adminPort: number) => Promise<boolean>;
}

const isReady = async (_port: number, adminPort: number): Promise<boolean> =>
  (await fetch(`http://127.0.0.1:${adminPort}/readyz`)).ok;

const BUNDLES: readonly Bundle[] = [
  {
    name: 'vote',
    env: (redis) => voteEnv('bench01', redis),
    ask: async (port) => {
      const vote = {
        method: 'POST',
        body: '{"choice":"cats"}',
        headers: { 'content-type': 'application/json' },
      };
      return (await fetch(`http://127.0.0.1:${port}/polls/cats-vs-dogs/votes`, vote)).status === 202;
    },
  },
  {
    name: 'worker',
    env: (redis, { url }) => ({ QUEUE_NODES: redis, DATABASE_URL: url }),
    ask: isReady,
  },
  { name: 'results', env: (_redis, { url }) => ({ DATABASE_URL: url }), ask: isReady },
  {
    name: 'dashboard',
    env: (redis, { url }) => ({
      QUEUE_NODES: redis,
      DATABASE_URL: url,
      DASHBOARD_USERS: 'bench:bench-password',
    }),
    ask: isReady,
  },
];

/** From exec to the first answer, by bundle: `vote` to its first 202, the others until they say that they are ready. */
export const start: Scenario = {
  name: 'start',
  title: 'cold start of each bundle, against a Redis and a PostgreSQL that already run',
  run: async (bench) => {
    const rounds = bench.isQuick ? 5 : 10;
    await Testbed.use(async (testbed) => {
      const [redis, postgres] = [await testbed.startRedis(), await testbed.startPostgres()];
      for (const { round, side } of interleave(BUNDLES, rounds)) {
        bench.progress(`round ${round} of ${rounds}: ${side.name}`);
        const script = join(ROOT, `dist/${side.name}.mjs`);
        const metrics = await startOnce(side, side.env(redis.socket, postgres));
        bench.record({
          scenario: 'start',
          side: side.name,
          round,
          params: {},
          metrics: { ...metrics, ...sizesOf(script) },
        });
      }
    });
  },
};

async function startOnce({ name, ask }: Bundle, env: Record<string, string>) {
  const folder = await scratchFolder();
  const [port, adminPort] = [await freePort(), await freePort()];
  const log = join(folder.path, `${name}.log`);
  const startedAt = performance.now();
  const process = startBundle(
    name,
    { PORT: String(port), ADMIN_PORT: String(adminPort), POLLS_FILE, ...env },
    log,
  );
  try {
    await untilAnswered(process, () => ask(port, adminPort));
    const readyMs = performance.now() - startedAt;
    const residentMegabytes = readResidentBytes(process.child.pid ?? 0) / BYTES_PER_MEGABYTE;
    return { readyMs, residentMegabytes };
  } finally {
    await process.end();
    await folder.remove();
  }
}

async function untilAnswered(process: TestProcess, ask: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + READY_MS_MAX;
  while (!(await ask().catch(() => false))) {
    if (performance.now() > deadline || process.child.exitCode !== null) {
      throw new Error(`it does not answer: ${await process.output()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, ASK_INTERVAL_MS));
  }
}

function sizesOf(script: string) {
  return {
    bundleKilobytes: statSync(script).size / 1_000,
    gzippedKilobytes: gzipSync(readFileSync(script)).length / 1_000,
  };
}
