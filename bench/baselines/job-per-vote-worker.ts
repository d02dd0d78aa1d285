import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';
import { readConfig, settings } from '#runtime/config.ts';
import { connectionOptions, parseRedisAddress } from '#runtime/redis.ts';

const CONCURRENCY = 50;
const CONNECTIONS_MAX = 10;

/** The worker of BullMQ's tutorial: one insert per job. */
const { redisUrl, databaseUrl } = readConfig({
  redisUrl: settings.redisUrl,
  databaseUrl: settings.databaseUrl,
});
const pool = new pg.Pool({ connectionString: databaseUrl.reveal(), max: CONNECTIONS_MAX });
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
      text: `insert into votes (poll_id, voter_id, choice_id, cast_at) values ($1, $2, $3, to_timestamp($4 / 1000.0))
        on conflict (poll_id, voter_id) do update set choice_id = excluded.choice_id, cast_at = excluded.cast_at`,
      values: [poll, voter, choice, castAt],
    });
  },
  { connection, concurrency: CONCURRENCY, removeOnComplete: { count: 0 } },
);
