import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { ROOT } from '#dev/root.ts';
import { NODE_KEY } from '#job';
import { scratchFolder, type TestProcess } from '#kit/process.ts';
import { type ServiceOptions, spawnService, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';
import { readNodeFlags, readResidentBytes } from '../measure/proc.ts';
import { Testbed, type TestbedPostgres } from '../testbed/testbed.ts';
import { interleave, type Scenario } from './scenario.ts';

const READY_MS_MAX = 20_000;
/** The measured time is late by half of this on average. */
const POLL_INTERVAL_MS = 2;
const BYTES_PER_MEGABYTE = 2 ** 20;

interface Side {
  readonly bundle: ServiceOptions['bundle'];
  readonly env: (redis: string, postgres: TestbedPostgres) => Record<string, string>;
  readonly isServing: (port: number, adminPort: number) => Promise<boolean>;
}

const isReady = async (_port: number, adminPort: number): Promise<boolean> =>
  (await fetch(`http://127.0.0.1:${adminPort}/readyz`)).ok;

const SIDES: readonly Side[] = [
  {
    bundle: 'vote',
    env: (redis) => voteEnv('bench01', redis),
    isServing: async (port) => {
      const vote = {
        method: 'POST',
        body: '{"choice":"cats"}',
        headers: { 'content-type': 'application/json' },
      };
      return (await fetch(`http://127.0.0.1:${port}/polls/cats-vs-dogs/votes`, vote)).status === 202;
    },
  },
  {
    bundle: 'worker',
    env: (redis, { url }) => ({ QUEUE_NODES: redis, DATABASE_URL: url }),
    isServing: isReady,
  },
  { bundle: 'results', env: (_redis, { url }) => ({ DATABASE_URL: url }), isServing: isReady },
  {
    bundle: 'dashboard',
    env: (redis, { url }) => ({
      QUEUE_NODES: redis,
      DATABASE_URL: url,
      DASHBOARD_USERS: 'bench:bench-password',
    }),
    isServing: isReady,
  },
];

/** The time from exec to the first answer by bundle: of `vote` its first 202, of the others their readiness. */
export const start: Scenario = {
  name: 'start',
  title: 'cold start of each bundle, with Redis and PostgreSQL running',
  run: async (bench) => {
    const rounds = bench.isQuick ? 5 : 10;
    await Testbed.use(async (testbed) => {
      const [redis, postgres] = [await testbed.startRedis(), await testbed.startPostgres()];
      const worker = await testbed.startWorker('enrolling', [redis.socket], postgres.url);
      await until('the node is enrolled', () => redis.client.exists(NODE_KEY).then(Boolean));
      await worker.close();
      for (const { round, side } of interleave(SIDES, rounds)) {
        bench.progress(`round ${round} of ${rounds}: ${side.bundle}`);
        const started = await startOnce(side, side.env(redis.socket, postgres));
        bench.record({ scenario: 'start', side: side.bundle, round, params: {}, ...started });
      }
    });
  },
};

async function startOnce({ bundle, isServing }: Side, env: Record<string, string>) {
  const folder = await scratchFolder();
  const service = await spawnService({ bundle, env, folder: folder.path });
  const startedAt = performance.now();
  try {
    await untilServing(service, () => isServing(service.port, service.adminPort));
    const readyMs = performance.now() - startedAt;
    const pid = service.child.pid ?? 0;
    return {
      nodeFlags: readNodeFlags(pid),
      metrics: {
        readyMs,
        residentMegabytes: readResidentBytes(pid) / BYTES_PER_MEGABYTE,
        ...sizesOf(join(ROOT, `dist/${bundle}.mjs`)),
      },
    };
  } finally {
    await service.end();
    await folder.remove();
  }
}

async function untilServing(process: TestProcess, isServing: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + READY_MS_MAX;
  while (!(await isServing().catch(() => false))) {
    if (performance.now() > deadline || process.child.exitCode !== null) {
      throw new Error(`the process does not answer: ${await process.output()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}

function sizesOf(script: string) {
  return {
    bundleKilobytes: statSync(script).size / 1_000,
    gzippedKilobytes: gzipSync(readFileSync(script)).length / 1_000,
  };
}
