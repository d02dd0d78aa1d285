import { randomUUIDv7 } from 'node:crypto';
import pg from 'pg';
import { readConfig, settings } from '#runtime/config.ts';
import { RECEIPT, serveVotes } from './server.ts';

/** More connections slow PostgreSQL down on two processors. */
const CONNECTIONS_MAX = 10;

/** No queue: one insert per vote. */
const { databaseUrl } = readConfig({ databaseUrl: settings.databaseUrl });
const pool = new pg.Pool({ connectionString: databaseUrl.reveal(), max: CONNECTIONS_MAX });

await pool.query('select 1');
await serveVotes(async (poll, choice) => {
  await pool.query({
    name: 'vote',
    text: `insert into votes (poll_id, voter_id, choice_id, cast_at) values ($1, $2, $3, now())
      on conflict (poll_id, voter_id) do update set choice_id = excluded.choice_id, cast_at = excluded.cast_at`,
    values: [poll, randomUUIDv7(), choice],
  });
  return RECEIPT;
});
