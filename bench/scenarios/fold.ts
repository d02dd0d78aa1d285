import { sql } from 'kysely';
import { auditSources } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import { foldReceipts } from '#db/fold.ts';
import { readNodes } from '#db/nodes.ts';
import { readResults } from '#db/results.ts';
import { Testbed } from '../testbed/testbed.ts';
import type { Scenario } from './scenario.ts';

const SOURCES = 200;
const RECEIPTS = 8_000_000;
const RECEIPTS_QUICK = 400_000;
/** Small jobs, as many frontends at a low rate make them. */
const VOTES_PER_JOB = 2;

/** The receipts of an event that are not folded yet, and what the fold makes of them. */
export const fold: Scenario = {
  name: 'fold',
  title: `receipts of ${SOURCES} sources before and after the fold: its rate, sizes, audit and results`,
  run: async (bench) => {
    const receipts = bench.isQuick ? RECEIPTS_QUICK : RECEIPTS;
    await Testbed.use(async (testbed) => {
      const { db } = await testbed.startPostgres();
      bench.progress(`inserting ${receipts} receipts`);
      await insertReceipts(db, receipts / SOURCES);
      const record = (side: string, metrics: Parameters<typeof bench.record>[0]['metrics']): void =>
        bench.record({ scenario: 'fold', side, round: 1, params: { receipts }, metrics });
      record('as committed', await readCosts(db));
      bench.progress('folding');
      const startedAt = performance.now();
      while ((await foldReceipts(db)) > 0);
      const seconds = (performance.now() - startedAt) / 1_000;
      await sql`vacuum analyze receipts, sources`.execute(db);
      record('folded', { ...(await readCosts(db)), receiptsPerSecond: receipts / seconds });
    });
  },
};

async function insertReceipts(db: Db, perSource: number): Promise<void> {
  await sql`insert into nodes (id, name) select 'n' || n, 'n' || n from generate_series(1, ${SOURCES}::int) as n`.execute(
    db,
  );
  await sql`
    insert into sources (source, node_id, accepted_seq, accepted_votes)
    select 's' || n, 'n' || n, ${perSource}::int, ${perSource * VOTES_PER_JOB}::int
    from generate_series(1, ${SOURCES}::int) as n
  `.execute(db);
  for (let source = 1; source <= SOURCES; source++) {
    await sql`
      insert into receipts (source, seq, votes, counted, changed, superseded, rejected)
      select ${`s${source}`}, seq, ${VOTES_PER_JOB}::int, ${VOTES_PER_JOB}::int, 0, 0, 0
      from generate_series(1, ${perSource}::int) as seq
    `.execute(db);
  }
  await sql`vacuum analyze receipts, sources`.execute(db);
}

async function readCosts(db: Db) {
  const { rows } = await sql<{ bytes: number }>`
    select pg_total_relation_size('receipts') + pg_total_relation_size('sources') as bytes
  `.execute(db);
  return {
    megabytes: (rows[0]?.bytes ?? 0) / 1_000_000,
    auditMs: await timed(() => auditSources(db)),
    resultsMs: await timed(() => readResults(db)),
    nodesMs: await timed(() => readNodes(db)),
  };
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await run();
  return performance.now() - startedAt;
}
