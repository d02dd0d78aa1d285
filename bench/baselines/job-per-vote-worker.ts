import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';
import { readConfig, settings } from '#runtime/config.ts';
import { connectionOptions, parseRedisAddress } from '#runtime/redis.ts';
import { readChoiceNumbers } from './choices.ts';

const CONCURRENCY = 50;
const CONNECTIONS_MAX = 10;

/** The worker of BullMQ's tutorial: one insert per job. */
const { redisUrl, databaseUrl } = readConfig({
  redisUrl: settings.redisUrl,
  databaseUrl: settings.databaseUrl,
});
const pool = new pg.Pool({ connectionString: databaseUrl.reveal(), max: CONNECTIONS_MAX });
const numbersOf = await readChoiceNumbers(pool);
const connection = new Redis({
  ...connectionOptions(parseRedisAddress(redisUrl.reveal())),
  replyMapping: 'legacy',
  maxRetriesPerRequest: null,
});

new Worker<{ poll: string; voter: string; choice: string; castAt: number }>(
  'votes',
  async ({ data: { poll, voter, choice, castAt } }) => {
    await pool.query({
      name: 'vote',
      text: `insert into votes (poll_no, choice_no, voter_id, cast_us) values ($1, $2, $3, $4)
        on conflict (poll_no, voter_id) do update set choice_no = excluded.choice_no, cast_us = excluded.cast_us`,
      values: [...numbersOf(poll, choice), voter, castAt * 1_000],
    });
  },
  { connection, concurrency: CONCURRENCY, removeOnComplete: { count: 0 } },
);
