import { randomUUIDv7 } from 'node:crypto';
import pg from 'pg';
import { readConfig, settings } from '#runtime/config.ts';
import { RECEIPT, serveVotes } from './server.ts';

/** As many as a small Postgres with two processors likes; more make it slower. */
const CONNECTIONS_MAX = 10;

/** What people do who have no queue: one insert a vote, straight into the table. */
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
