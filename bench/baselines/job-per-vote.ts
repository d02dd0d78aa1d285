import { randomUUIDv7 } from 'node:crypto';
import { Queue } from 'bullmq';
import { readConfig, settings } from '#runtime/config.ts';
import { connectFailingFast, parseRedisAddress } from '#runtime/redis.ts';
import { serveVotes } from './server.ts';

/** The producer of BullMQ's tutorial: one job per vote. */
const { redisUrl } = readConfig({ redisUrl: settings.redisUrl });
const connection = connectFailingFast(parseRedisAddress(redisUrl.reveal()));
const queue = new Queue('votes', { connection });

await queue.waitUntilReady();
await serveVotes(async (poll, choice) => {
  const job = await queue.add('vote', { poll, voter: randomUUIDv7(), choice, castAt: Date.now() });
  return job.id ?? '';
});
