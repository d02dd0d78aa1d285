import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { scratchFolder } from '../support/process.ts';
import { startProxy, type TestProxy } from '../support/proxy.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { startService, type TestService, voteEnv } from '../support/system.ts';

/**
 * A disk that takes 100 ms for a write of at most 20 jobs of 2 votes: the handler can take some 400 votes a second,
 * far below what its processor could. So this test is about the disk, and any machine can offer three times as much.
 */
const WRITE_MS = 100;
const VOTES_PER_JOB_MAX = 2;
const CAPTURE_BUFFER_MAX = 40;
const PEAK_CLIENTS = 80;
const PHASE_MS = 4_000;
const OVERLOAD = 3;
const TICK_MS = 10;
const GOODPUT_SHARE_MIN = 0.9;
const REFUSAL_MS_MEDIAN_MAX = 50;
const MEGABYTES_MORE_MAX = 100;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
let proxy: TestProxy;
let handler: TestService;
const agent = new Agent({ keepAlive: true, maxSockets: 2_000 });

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
});
afterAll(async () => {
  agent.destroy();
  await handler.end();
  await proxy.close();
  await redis.remove();
  await folder.remove();
});

interface Outcome {
  readonly status: number;
  readonly ms: number;
}

async function castVote(): Promise<Outcome> {
  const startedAt = performance.now();
  const sent = request({
    agent,
    port: handler.port,
    path: '/polls/cats-vs-dogs/votes',
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', 'content-length': 11 },
    signal: AbortSignal.timeout(10_000),
  });
  sent.end('choice=cats');
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  answer.resume();
  await once(answer, 'end');
  return { status: answer.statusCode ?? 0, ms: performance.now() - startedAt };
}

/** As many votes a second as the handler takes: every client votes again as soon as it has its answer. */
async function measurePeak(): Promise<number> {
  const startedAt = performance.now();
  let accepted = 0;
  const client = async (): Promise<void> => {
    while (performance.now() - startedAt < PHASE_MS) {
      const { status } = await castVote();
      if (status === 202) accepted += 1;
      else await sleep(TICK_MS);
    }
  };
  await Promise.all(Array.from({ length: PEAK_CLIENTS }, client));
  return accepted / ((performance.now() - startedAt) / 1_000);
}

/** Votes arrive at a steady pace, whatever becomes of those before. */
async function offer(votesPerSecond: number): Promise<{ outcomes: Outcome[]; seconds: number }> {
  const startedAt = performance.now();
  const waiting: Promise<Outcome>[] = [];
  for (let elapsed = 0; elapsed < PHASE_MS; elapsed = performance.now() - startedAt) {
    const due = Math.floor((elapsed / 1_000) * votesPerSecond);
    while (waiting.length < due) waiting.push(castVote());
    await sleep(TICK_MS);
  }
  const outcomes = await Promise.all(waiting);
  return { outcomes, seconds: (performance.now() - startedAt) / 1_000 };
}

const residentMegabytes = async (): Promise<number> => {
  const metrics = await (await fetch(`${handler.adminUrl}/metrics`)).text();
  return Number(/^process_resident_memory_bytes\S* (\d+)/m.exec(metrics)?.[1]) / 2 ** 20;
};

test('offered three times what its disk can take, the handler keeps its pace and refuses the rest at once', async () => {
  const peak = await measurePeak();
  const before = await residentMegabytes();
  const { outcomes, seconds } = await offer(OVERLOAD * peak);

  const accepted = outcomes.filter(({ status }) => status === 202);
  const refused = outcomes.filter(({ status }) => status === 503).map(({ ms }) => ms);
  expect(accepted.length + refused.length).toBe(outcomes.length);
  expect(outcomes.length / seconds / peak).toBeGreaterThan(0.8 * OVERLOAD);
  expect(accepted.length / seconds / peak).toBeGreaterThan(GOODPUT_SHARE_MIN);
  const median = refused.toSorted((a, b) => a - b)[Math.floor(refused.length / 2)];
  expect(median).toBeLessThan(REFUSAL_MS_MEDIAN_MAX);
  expect((await residentMegabytes()) - before).toBeLessThan(MEGABYTES_MORE_MAX);

  // The crowd has gone: the very next vote is taken.
  expect((await castVote()).status).toBe(202);
});
