import { cpSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { auditSources } from '#db/audit.ts';
import { readAwaited } from '#db/final.ts';
import { applyPollsFile } from '#db/polls.ts';
import { readResults } from '#db/results.ts';
import { NODE_KEY, parseJobKey } from '#job';
import { castAccepted, castCounted, untilCounted } from '#kit/cast.ts';
import { until } from '#kit/until.ts';
import { POLL } from '#kit/votes.ts';
import { type ChaosSystem, type Frontend, startSystem, withRedis } from '../chaos/system.ts';

const SHOW = 'show';

let system: ChaosSystem;

beforeAll(async () => {
  system = await startSystem({ frontends: 2, workers: 1 });
});
afterAll(() => system?.stop());

const votesOf = async (poll: string) =>
  (await readResults(system.db)).polls.find(({ poll: id }) => id === poll)?.choices?.[0]?.votes;

test('after a restore of Postgres from a backup, what the nodes hold is adopted and the audit names what is missing', async () => {
  const { frontends, postgres, postgresDir, db } = system;
  const [one, two] = frontends as [Frontend, Frontend];
  await Promise.all(frontends.map((frontend) => castCounted(db, frontend.url)));
  const backup = `${postgresDir}-backup`;
  await postgres.end('SIGINT');
  cpSync(postgresDir, backup, { recursive: true });
  await postgres.startAndWait();

  // After the backup: a new poll, a vote for it that is counted, and one that waits in a node cut off from the workers.
  const choices = ['cats', 'dogs'].map((id) => ({ id, label: id }));
  await applyPollsFile(db, { version: 2, polls: [{ id: SHOW, question: 'Ready?', choices }] });
  const lost = await castCounted(db, one.url, SHOW);
  await until(
    'the poll has reached the other node',
    async () => (await fetch(`${two.url}/polls/${SHOW}`)).ok,
  );
  two.proxy.refuse();
  const waiting = await castAccepted(two.url, SHOW);

  await postgres.end('SIGINT');
  rmSync(postgresDir, { recursive: true });
  cpSync(backup, postgresDir, { recursive: true });
  one.proxy.refuse();
  await postgres.startAndWait();
  expect(await votesOf(SHOW)).toBeUndefined();
  two.proxy.allow();
  // Not rejected as a vote for an unknown poll.
  await untilCounted(db, waiting);
  expect(await votesOf(SHOW)).toBe(1);
  expect(await db.selectFrom('rejected_votes').selectAll().execute()).toEqual([]);

  // Nothing becomes final until the other node is read as well.
  await db.updateTable('polls').set({ closes_at: new Date() }).execute();
  const id = (await withRedis(one, (client) => client.get(NODE_KEY))) as string;
  await until('the close awaits only the node that cannot be read', async () => {
    const awaited = (await readAwaited(db)).get(POLL);
    return awaited?.nodes.join() === id && awaited.unsealed.length === 0;
  });
  one.proxy.allow();
  const { source, seq } = parseJobKey(lost) as { source: string; seq: number };
  await until('the audit names the missing job', async () => {
    const sources = await auditSources(db);
    return sources.find((row) => row.source === source)?.missing.includes(seq);
  });
  expect((await auditSources(db)).filter(({ missingJobs }) => missingJobs > 0)).toMatchObject([
    { source, missingJobs: 1 },
  ]);
  await until('its poll awaits that source', async () => {
    const awaited = (await readAwaited(db)).get(SHOW);
    return awaited?.uncounted.join() === source && awaited.nodes.length === 0;
  });
});
