import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { prepareLoad } from '#kit/load/generator.ts';
import type { LoadResult, RatePoint } from '#kit/load/spec.ts';
import { enrolNode } from '#kit/node.ts';
import { scratchFolder } from '#kit/process.ts';
import { startProxy, type TestProxy } from '#kit/proxy.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, voteEnv } from '#kit/system.ts';

/**
 * A disk that takes 100 ms for a write of at most 20 jobs with 2 votes each. It limits the handler to some 400 votes/s, far
 * below its CPU limit, so that any machine can offer three times as much.
 */
const WRITE_MS = 100;
const VOTES_PER_JOB_MAX = 2;
const CAPTURE_BUFFER_MAX = 40;
const PEAK_CLIENTS = 80;
const CONNECTIONS_MAX = 400;
const PHASE_SECONDS = 4;
const OVERLOAD = 3;
const GOODPUT_SHARE_MIN = 0.9;
const REFUSAL_MS_MEDIAN_MAX = 50;
const MEGABYTES_MORE_MAX = 100;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
let proxy: TestProxy;
let handler: TestService;

beforeAll(async () => {
  folder = await scratchFolder();
  redis = await startRedis();
  await enrolNode(redis.client);
  const socket = join(folder.path, 'slow.sock');
  proxy = await startProxy({ path: socket }, { path: redis.socket }, WRITE_MS);
  const env = {
    ...voteEnv('slow', socket),
    VOTES_PER_JOB_MAX: String(VOTES_PER_JOB_MAX),
    CAPTURE_BUFFER_MAX: String(CAPTURE_BUFFER_MAX),
  };
  handler = await startService({ bundle: 'vote', env, folder: folder.path });
});
afterAll(async () => {
  await handler.end();
  await proxy.close();
  await redis.remove();
  await folder.remove();
});

async function castVotes(connections: number, rates?: readonly RatePoint[]): Promise<LoadResult> {
  const load = await prepareLoad({
    targets: [{ port: handler.port }],
    kind: 'first',
    connections,
    seconds: PHASE_SECONDS,
    ...(rates && { rates }),
  });
  return load.run();
}

const residentMegabytes = async (): Promise<number> => {
  const metrics = await (await fetch(`${handler.adminUrl}/metrics`)).text();
  return Number(/^process_resident_memory_bytes\S* (\d+)/m.exec(metrics)?.[1]) / 2 ** 20;
};

test('at three times the capacity of its disk, the handler keeps its throughput and refuses the rest at once', async () => {
  const atPeak = await castVotes(PEAK_CLIENTS);
  const peak = atPeak.accepted / atPeak.seconds;
  const before = await residentMegabytes();
  const { sentInTime, acceptedInTime, failed, answers } = await castVotes(CONNECTIONS_MAX, [
    { atSeconds: 0, perSecond: OVERLOAD * peak },
  ]);

  expect(failed).toBe(0);
  expect(sentInTime / PHASE_SECONDS / peak).toBeGreaterThan(0.8 * OVERLOAD);
  expect(acceptedInTime / PHASE_SECONDS / peak).toBeGreaterThan(GOODPUT_SHARE_MIN);
  expect(answers['503']?.latency.p50).toBeLessThan(REFUSAL_MS_MEDIAN_MAX);
  expect((await residentMegabytes()) - before).toBeLessThan(MEGABYTES_MORE_MAX);

  // After the overload the next vote is accepted.
  const vote = { method: 'POST', body: new URLSearchParams({ choice: 'cats' }) };
  expect((await fetch(`${handler.url}/polls/cats-vs-dogs/votes`, vote)).status).toBe(202);
});
