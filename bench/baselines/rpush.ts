import { randomUUIDv7 } from 'node:crypto';
import { readConfig, settings } from '#runtime/config.ts';
import { connectFailingFast, parseRedisAddress } from '#runtime/redis.ts';
import { RECEIPT, serveVotes } from './server.ts';

/** The design of Docker's voting example: one RPUSH per vote. */
const { redisUrl } = readConfig({ redisUrl: settings.redisUrl });
const redis = connectFailingFast(parseRedisAddress(redisUrl.reveal()));

await new Promise((resolve) => redis.once('ready', resolve));
await serveVotes(async (poll, choice) => {
  await redis.rpush('votes', JSON.stringify({ poll, voter: randomUUIDv7(), choice, castAt: Date.now() }));
  return RECEIPT;
});
