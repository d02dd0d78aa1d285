import { afterAll, beforeAll, expect, test } from 'vitest';
import { auditSources, auditTallies } from '#db/audit.ts';
import { readResults } from '#db/results.ts';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { nodeOf, type Vote } from '#job';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, VOTER_KEY, voteEnv } from '#kit/system.ts';
import { storedTallies, storedVotes } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { modelOf, POLL } from '#kit/votes.ts';
import { Secret } from '#runtime/secret.ts';

const VOTERS = 10_000;
const CLIENTS = 64;
const COUNTED_MS_MAX = 60_000;

let database: TestDatabase;
let folder: Awaited<ReturnType<typeof scratchFolder>>;
let nodes: TestRedis[] = [];
let frontends: TestService[] = [];
let workers: TestService[] = [];
let results: TestService;

beforeAll(async () => {
  // Without tables: both workers start concurrently and migrate.
  database = await createDatabase('template1');
  folder = await scratchFolder();
  nodes = await Promise.all([startRedis(), startRedis()]);
  const startingFrontends = Promise.all(
    nodes.map(({ socket }, index) =>
      startService({
        bundle: 'vote',
        name: `vote${index}`,
        env: voteEnv(`frontend0${index + 1}`, socket),
        folder: folder.path,
      }),
    ),
  );
  const env = { DATABASE_URL: database.url, QUEUE_NODES: nodes.map(({ socket }) => socket).join() };
  workers = await Promise.all(
    [1, 2].map((number) =>
      startService({ bundle: 'worker', name: `worker${number}`, env, folder: folder.path }),
    ),
  );
  // They become ready once a worker has enrolled their nodes.
  frontends = await startingFrontends;
  results = await startService({
    bundle: 'results',
    env: { DATABASE_URL: database.url },
    folder: folder.path,
  });
});

afterAll(async () => {
  await Promise.all([...frontends, ...workers, results].map((service) => service?.end()));
  await Promise.all(nodes.map((node) => node.remove()));
  await database.remove();
  await folder.remove();
});

/** Casts a vote over HTTP. Returns the vote as accepted, and the voter's token. */
async function castVote(
  frontend: TestService,
  choice: string,
  token?: string,
): Promise<{ vote: Vote; token: string }> {
  const response = await fetch(`${frontend.url}/polls/${POLL}/votes`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify({ choice }),
  });
  expect(response.status).toBe(202);
  await response.text();
  const next = /turnout_voter=([^;]+)/.exec(response.headers.get('set-cookie') ?? '')?.[1] ?? '';
  const voter = createVoterTokens(new Secret(VOTER_KEY)).verify(next);
  if (!voter) throw new Error('the response has no valid voter token');
  return { vote: [POLL, voter.id, choice, voter.lastCastAt], token: next };
}

test('10,000 voters on two frontends, some of whom vote twice, each count exactly once', async () => {
  const accepted: Vote[] = [];
  let nextVoter = 0;
  const client = async (): Promise<void> => {
    while (nextVoter < VOTERS) {
      const voter = nextVoter++;
      const [here, there] = voter % 2 ? frontends : frontends.toReversed();
      const first = await castVote(here as TestService, voter % 3 ? 'cats' : 'dogs');
      accepted.push(first.vote);
      // Some vote again at once, on the same frontend or the other, with the same choice or another.
      if (voter % 5 !== 0) continue;
      const frontend = (voter % 10 ? here : there) as TestService;
      const second = await castVote(frontend, voter % 4 ? 'cats' : 'dogs', first.token);
      expect(second.vote[1]).toBe(first.vote[1]);
      expect(second.vote[3]).toBeGreaterThan(first.vote[3]);
      accepted.push(second.vote);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  expect(accepted).toHaveLength(VOTERS * 1.2);

  await until(
    'all jobs are committed',
    async () => {
      const { ledger } = await readResults(database.db);
      return ledger.committed === accepted.length;
    },
    COUNTED_MS_MAX,
  );

  const model = modelOf(accepted);
  expect(model.votes.size).toBe(VOTERS);
  expect(await storedVotes(database.db)).toEqual(model.votes);
  expect(await storedTallies(database.db)).toEqual(model.tallies);
  expect(await auditTallies(database.db)).toEqual([]);

  await until('the ledgers are mirrored', async () => {
    const sources = await auditSources(database.db);
    return sources.reduce((sum, { acceptedVotes }) => sum + acceptedVotes, 0) === accepted.length;
  });
  const sources = await auditSources(database.db);
  expect(sources.map(({ source }) => nodeOf(source).name).toSorted()).toEqual(['frontend01', 'frontend02']);
  for (const source of sources) {
    expect(source).toMatchObject({ jobs: source.acceptedSeq, votes: source.acceptedVotes, missingJobs: 0 });
  }
  // Ensures that this test covers jobs with several votes.
  const jobs = sources.reduce((sum, source) => sum + source.jobs, 0);
  expect(jobs).toBeLessThan(accepted.length);

  await until('the results agree', async () => {
    const response = await fetch(`${results.url}/polls/${POLL}/results`);
    expect(await response.json()).toMatchObject({
      poll: POLL,
      total: VOTERS,
      choices: [
        { id: 'cats', votes: model.tallies.get(`${POLL} cats`) },
        { id: 'dogs', votes: model.tallies.get(`${POLL} dogs`) },
      ],
      status: 'provisional',
      ledger: { accepted: accepted.length, committed: accepted.length },
    });
    return true;
  });
});
