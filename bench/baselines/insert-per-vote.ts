import { randomUUIDv7 } from 'node:crypto';
import pg from 'pg';
import { readConfig, settings } from '#runtime/config.ts';
import { readChoiceNumbers } from './choices.ts';
import { RECEIPT, serveVotes } from './server.ts';

/** More connections slow PostgreSQL down on two processors. */
const CONNECTIONS_MAX = 10;

/** No queue: one insert per vote. */
const { databaseUrl } = readConfig({ databaseUrl: settings.databaseUrl });
const pool = new pg.Pool({ connectionString: databaseUrl.reveal(), max: CONNECTIONS_MAX });

const numbersOf = await readChoiceNumbers(pool);
await serveVotes(async (poll, choice) => {
  await pool.query({
    name: 'vote',
    text: `insert into votes (poll_no, choice_no, voter_id, cast_us) values ($1, $2, $3, $4)
      on conflict (poll_no, voter_id) do update set choice_no = excluded.choice_no, cast_us = excluded.cast_us`,
    values: [...numbersOf(poll, choice), randomUUIDv7(), Date.now() * 1_000],
  });
  return RECEIPT;
});
