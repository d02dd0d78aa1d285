import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Load } from '#kit/open-loop.ts';
import { scratchFolder } from '#kit/process.ts';
import { startProxy, type TestProxy } from '#kit/proxy.ts';
import { median } from '#kit/quantile.ts';
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
const PHASE_MS = 4_000;
const OVERLOAD = 3;
const GOODPUT_SHARE_MIN = 0.9;
const REFUSAL_MS_MEDIAN_MAX = 50;
const MEGABYTES_MORE_MAX = 100;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
let proxy: TestProxy;
let handler: TestService;
let load: Load;

beforeAll(async () => {
  folder = await scratchFolder();
  redis = await startRedis();
  const socket = join(folder.path, 'slow.sock');
  proxy = await startProxy({ path: socket }, { path: redis.socket }, WRITE_MS);
  const env = {
    ...voteEnv('slow', socket),
    VOTES_PER_JOB_MAX: String(VOTES_PER_JOB_MAX),
    CAPTURE_BUFFER_MAX: String(CAPTURE_BUFFER_MAX),
  };
  handler = await startService({ bundle: 'vote', env, folder: folder.path });
  load = new Load({ host: '127.0.0.1', port: handler.port });
});
afterAll(async () => {
  load.close();
  await handler.end();
  await proxy.close();
  await redis.remove();
  await folder.remove();
});

const residentMegabytes = async (): Promise<number> => {
  const metrics = await (await fetch(`${handler.adminUrl}/metrics`)).text();
  return Number(/^process_resident_memory_bytes\S* (\d+)/m.exec(metrics)?.[1]) / 2 ** 20;
};

test('at three times the capacity of its disk, the handler keeps its throughput and refuses the rest at once', async () => {
  const peak = await load.measurePeak(PEAK_CLIENTS, PHASE_MS);
  const before = await residentMegabytes();
  const { outcomes, seconds, acceptedInTime } = await load.offer(OVERLOAD * peak, PHASE_MS);

  const accepted = outcomes.filter(({ status }) => status === 202);
  const refused = outcomes.filter(({ status }) => status === 503).map(({ ms }) => ms);
  expect(accepted.length + refused.length).toBe(outcomes.length);
  expect(outcomes.length / seconds / peak).toBeGreaterThan(0.8 * OVERLOAD);
  expect(acceptedInTime / seconds / peak).toBeGreaterThan(GOODPUT_SHARE_MIN);
  expect(median(refused)).toBeLessThan(REFUSAL_MS_MEDIAN_MAX);
  expect((await residentMegabytes()) - before).toBeLessThan(MEGABYTES_MORE_MAX);

  // After the overload the next vote is accepted.
  expect((await load.castVote()).status).toBe(202);
});
