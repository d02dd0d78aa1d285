import type { Redis } from 'ioredis';
import { enrolNode } from '#kit/node.ts';
import { until } from '#kit/until.ts';
import { fill, fillJobPerVote } from '../testbed/backlog.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { Scenario } from './scenario.ts';

const REWRITE_MS_MAX = 60_000;

interface Side {
  readonly name: string;
  readonly votesPerJob: number;
  readonly fill: (socket: string, votes: number) => Promise<void>;
}

const turnout = (votesPerJob: number): Side => ({
  name: 'turnout',
  votesPerJob,
  fill: (socket, votes) => fill([socket], votes, votesPerJob),
});

const SIDES: readonly Side[] = [
  turnout(500),
  turnout(50),
  turnout(5),
  turnout(1),
  { name: 'job-per-vote', votesPerJob: 1, fill: fillJobPerVote },
];

/** RAM and disk of a waiting vote. Both are counted and not timed, so one round is enough. */
export const memory: Scenario = {
  name: 'memory',
  title: 'bytes per waiting vote: RAM of Redis, append-only file as written and after its rewrite',
  run: async (bench) => {
    for (const { name, votesPerJob, fill: fillWith } of SIDES) {
      const votes = votesPerJob === 1 || bench.isQuick ? 50_000 : 250_000;
      bench.progress(`${name}, ${votesPerJob} vote(s) per job`);
      await Testbed.use(async (testbed) => {
        const { client, socket } = await testbed.startRedis();
        await enrolNode(client);
        await client.config('SET', 'auto-aof-rewrite-percentage', '0');
        // The first job adds scripts and keys that all jobs share.
        await fillWith(socket, votesPerJob);
        const before = await readSizes(client);
        await fillWith(socket, votes);
        const written = await readSizes(client);
        await rewrite(client);
        const rewritten = await readSizes(client);
        bench.record({
          scenario: 'memory',
          side: name,
          round: 1,
          params: { votesPerJob },
          metrics: {
            redisBytes: (written.ram - before.ram) / votes,
            diskBytes: (rewritten.disk - before.disk) / votes,
            diskBytesPeak: (written.disk - before.disk) / votes,
          },
        });
      });
    }
  },
};

async function readSizes(client: Redis): Promise<{ ram: number; disk: number }> {
  const ram = await client.info('memory');
  const disk = await client.info('persistence');
  return {
    ram: Number(/^used_memory_dataset:(\d+)/m.exec(ram)?.[1]),
    disk: Number(/^aof_current_size:(\d+)/m.exec(disk)?.[1]),
  };
}

async function rewrite(client: Redis): Promise<void> {
  await client.bgrewriteaof();
  await until(
    'the append-only file is rewritten',
    async () => {
      const persistence = await client.info('persistence');
      return /^aof_rewrite_in_progress:0/m.test(persistence) && /^aof_rewrite_scheduled:0/m.test(persistence);
    },
    REWRITE_MS_MAX,
  );
}
