import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { enrolNode } from '#kit/node.ts';
import { freePort, scratchFolder } from '#kit/process.ts';
import { startRedis } from '#kit/redis.ts';
import { startBundle } from '#kit/system.ts';
import { until } from '#kit/until.ts';

/** Starts the vote bundle on the real Redis of an enrolled node, and prints the time from exec to the first 202. Fails without a 202. */

const redis = await startRedis();
await enrolNode(redis.client);
const folder = await scratchFolder();
const [port, adminPort] = [await freePort(), await freePort()];
const startedAt = performance.now();
const handler = startBundle(
  'vote',
  {
    PORT: String(port),
    ADMIN_PORT: String(adminPort),
    TURNOUT_NODE: 'smoke',
    REDIS_URL: redis.socket,
    VOTER_KEY: randomBytes(32).toString('hex'),
  },
  join(folder.path, 'vote.log'),
);
try {
  await until('the first 202', async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/polls/cats-vs-dogs/votes`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"choice":"cats"}',
    });
    await answer.text();
    return answer.status === 202;
  });
  console.log(`dist/vote.mjs: ${Math.round(performance.now() - startedAt)} ms from exec to the first 202`);
} catch (error) {
  console.error(`dist/vote.mjs captures no votes: ${(error as Error).message}\n${await handler.output()}`);
  process.exitCode = 1;
} finally {
  await handler.end();
  await redis.remove();
  await folder.remove();
}
