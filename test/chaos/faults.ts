import { appendFileSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeOffNode } from '#db/nodes.ts';
import { LEDGER_KEY, NODE_KEY, nodeOf, readLedger } from '#job';
import { until } from '#kit/until.ts';
import { areCommitted } from './committed.ts';
import type { Crowd } from './crowd.ts';
import { appendOnlyFile, canLosePower, losePower, repairAppendOnlyFile } from './power.ts';
import type { Random } from './random.ts';
import { type ChaosSystem, canSkewClocks, type Frontend, withRedis } from './system.ts';

/** Longer than a job's lock plus the interval between checks for stalled jobs. */
const FREEZE_PAST_LOCKS_MS = 22_000;
const FREEZE_MS_MAX = 4_000;
/** Longer than a source may take to seal, so that a close of a poll in between fences it. */
const FREEZE_PAST_SEAL_MS = 9_000;
const CLOCK_SKEW_MS_MAX = 60_000;
const CLOCK_SKEW_DURATION_MS = 3_000;
/** Longer than a request may take, so that no vote with a skewed time is still on its way. */
const CLOCK_SETTLE_MS = 6_000;
/** How long a Redis stays out of memory. */
const PRESSURE_MS = 3_000;
/** A page that the file system had allocated and not written when the power failed. */
const ZEROS = 4_096;
/** A commit is a long message, any other query a short one. */
const COMMIT_BYTES_MIN = 3_000;
const COMMIT_MS_MAX = 10_000;
const DRAIN_MS_MAX = 60_000;

interface FaultContext {
  readonly system: ChaosSystem;
  readonly crowd: Crowd;
  readonly random: Random;
  /** Duration of the long outages. */
  readonly outageMs: number;
  /** Scratch folder for traces. */
  readonly folder: string;
}

/** One way to break the system. `run` resolves once the cause is removed; recovery may take longer. */
export interface Fault {
  readonly name: string;
  /** Relative frequency. */
  readonly weight: number;
  readonly run: (context: FaultContext) => Promise<void>;
  /** Whether it is never one of a pair: its steps assume that nothing else starts or stops its units. */
  readonly isAlone?: boolean;
  /** Returns why the fault cannot be injected here; `undefined` if it can. */
  readonly obstacle?: (system: ChaosSystem) => string | undefined;
}

/** Fills the disk. Redis may take the last bytes first, so ENOSPC is expected. */
function fill(disk: string, filler: string): void {
  const { bavail, bsize } = statfsSync(disk);
  try {
    writeFileSync(filler, Buffer.alloc(bavail * bsize));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  }
}

/** Stops a process for a time, without ending it. */
async function freeze(unit: Frontend['handler'], ms: number): Promise<void> {
  unit.signal('SIGSTOP');
  await sleep(ms);
  unit.signal('SIGCONT');
  await unit.untilUp();
}

/** Waits until every job of the node is committed, while its handler is stopped. @returns the node's id */
async function untilDrained(frontend: Frontend, { db }: ChaosSystem): Promise<string> {
  const [id, fields] = await withRedis(frontend, (client) =>
    Promise.all([client.get(NODE_KEY), client.hgetall(LEDGER_KEY)]),
  );
  if (id === null) throw new Error(`${frontend.name} is not enrolled`);
  const accepted = [...readLedger(fields)].filter(([source]) => nodeOf(source).id === id);
  await until(`${frontend.name} is drained`, () => areCommitted(db, accepted), DRAIN_MS_MAX);
  return id;
}

const frontendOf = ({ system, random }: FaultContext): Frontend => random.pick(system.frontends);

export const FAULTS: readonly Fault[] = [
  {
    name: 'kill -9 a handler',
    weight: 4,
    run: async (context) => {
      const { handler } = frontendOf(context);
      await handler.end('SIGKILL');
      await handler.startAndWait();
    },
  },
  {
    name: 'stop a handler gracefully',
    weight: 2,
    run: async (context) => {
      const { handler } = frontendOf(context);
      await handler.end('SIGTERM');
      await handler.startAndWait();
    },
  },
  {
    name: 'kill -9 a Redis',
    weight: 4,
    run: async (context) => {
      const { redis } = frontendOf(context);
      await redis.end('SIGKILL');
      await redis.startAndWait();
    },
  },
  {
    name: 'power loss of a node',
    weight: 5,
    obstacle: () => (canLosePower() ? undefined : 'strace is missing'),
    run: async (context) => {
      const frontend = frontendOf(context);
      await losePower(frontend, join(context.folder, `strace-${frontend.name}.txt`));
      await frontend.redis.startAndWait();
      await frontend.handler.startAndWait();
    },
  },
  {
    name: 'kill -9 a worker',
    weight: 4,
    run: async ({ system, random }) => {
      const worker = random.pick(system.workers);
      await worker.end('SIGKILL');
      await worker.startAndWait();
    },
  },
  {
    name: 'kill -9 the workers during a commit',
    weight: 4,
    run: async ({ system }) => {
      // Kill all workers as soon as one of them has sent a commit.
      const sent = system.postgresProxy.onceSent(COMMIT_BYTES_MIN);
      await Promise.race([sent, sleep(COMMIT_MS_MAX)]);
      await Promise.all(system.workers.map((worker) => worker.end('SIGKILL')));
      await Promise.all(system.workers.map((worker) => worker.startAndWait()));
    },
  },
  {
    name: 'immediate stop of Postgres',
    weight: 3,
    run: async ({ system: { postgres } }) => {
      await postgres.end('SIGQUIT');
      await postgres.startAndWait();
    },
  },
  {
    name: 'a Redis is down',
    weight: 1,
    run: async (context) => {
      const { redis } = frontendOf(context);
      await redis.end('SIGTERM');
      await sleep(context.outageMs);
      await redis.startAndWait();
    },
  },
  {
    name: 'Postgres is down',
    weight: 1,
    run: async ({ system: { postgres }, outageMs }) => {
      await postgres.end('SIGINT');
      await sleep(outageMs);
      await postgres.startAndWait();
    },
  },
  {
    name: 'a worker freezes past its locks',
    weight: 1,
    run: async ({ system, random }) => {
      const worker = random.pick(system.workers);
      await freeze(worker, FREEZE_PAST_LOCKS_MS);
    },
  },
  {
    name: 'a handler or a Redis freezes',
    weight: 2,
    run: async (context) => {
      const { handler, redis } = frontendOf(context);
      const unit = context.random.pick([handler, redis]);
      await freeze(unit, context.random.between(100, FREEZE_MS_MAX));
    },
  },
  {
    name: 'a handler freezes past its time to seal',
    weight: 2,
    run: async (context) => {
      // If a poll closes meanwhile, it exits and is started again.
      await freeze(frontendOf(context).handler, FREEZE_PAST_SEAL_MS);
    },
  },
  {
    name: "a handler's clock is wrong",
    weight: 2,
    obstacle: () => (canSkewClocks() ? undefined : 'libfaketime is missing'),
    run: async (context) => {
      const { url, setClock } = frontendOf(context);
      context.crowd.skewed.add(url);
      setClock(Math.round(context.random.between(-CLOCK_SKEW_MS_MAX, CLOCK_SKEW_MS_MAX)));
      await sleep(CLOCK_SKEW_DURATION_MS);
      setClock(0);
      await sleep(CLOCK_SETTLE_MS);
      context.crowd.skewed.delete(url);
    },
  },
  {
    name: 'a node is cut off from the workers',
    weight: 2,
    run: async (context) => {
      const { proxy } = frontendOf(context);
      proxy.refuse();
      await sleep(context.outageMs);
      proxy.allow();
    },
  },
  {
    name: 'kill -9 a Redis, which leaves a torn append-only file',
    weight: 2,
    run: async (context) => {
      const { redis, disk } = frontendOf(context);
      await redis.end('SIGKILL');
      appendFileSync(appendOnlyFile(disk), '*3\r\n$4\r\nhset\r\n$7\r\ntur');
      await redis.startAndWait();
    },
  },
  {
    name: 'kill -9 a Redis, which leaves zeros in its append-only file',
    weight: 2,
    run: async (context) => {
      const { redis, disk } = frontendOf(context);
      await redis.end('SIGKILL');
      appendFileSync(appendOnlyFile(disk), Buffer.alloc(ZEROS));
      repairAppendOnlyFile(disk);
      await redis.startAndWait();
    },
  },
  {
    name: 'a drained node is lost with its disk and replaced',
    weight: 2,
    isAlone: true,
    run: async (context) => {
      const { system } = context;
      const frontend = frontendOf(context);
      const { handler, redis, disk } = frontend;
      await handler.end('SIGTERM');
      const id = await untilDrained(frontend, system);
      await redis.end('SIGKILL');
      for (const entry of readdirSync(disk)) rmSync(join(disk, entry), { recursive: true });
      await sleep(context.random.between(0, FREEZE_MS_MAX));
      // Polls that close meanwhile are not final before.
      await writeOffNode(system.db, id, { who: 'chaos', why: 'its disk is gone' });
      await redis.startAndWait();
      await handler.startAndWait();
    },
  },
  {
    name: 'connection between worker and Redis breaks',
    weight: 4,
    run: async (context) => {
      const { proxy } = frontendOf(context);
      if (context.random.next() < 0.5) proxy.cut();
      else proxy.cutInMidAnswer();
    },
  },
  {
    name: 'connection between worker and Postgres breaks',
    weight: 4,
    run: async ({ system: { postgresProxy }, random }) => {
      if (random.next() < 0.5) postgresProxy.cut();
      else postgresProxy.cutInMidAnswer();
    },
  },
  {
    name: "a Redis's memory is full",
    weight: 2,
    run: async (context) => {
      await withRedis(frontendOf(context), async (client) => {
        await client.config('SET', 'maxmemory', '1');
        await sleep(PRESSURE_MS);
        await client.config('SET', 'maxmemory', '1gb');
      });
    },
  },
  {
    name: "a Redis's disk is full",
    weight: 2,
    obstacle: ({ hasDisks }) => (hasDisks ? undefined : 'no disk can be mounted: needs root'),
    run: async (context) => {
      const { disk, redis } = frontendOf(context);
      const filler = join(disk, 'filler');
      fill(disk, filler);
      // With appendfsync always, Redis exits on a failed write.
      await until('Redis has exited', () => redis.hasEnded);
      rmSync(filler);
      await redis.startAndWait();
    },
  },
];
