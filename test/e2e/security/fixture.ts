/**
 * The system that the suites of this folder attack, with two nodes. A file that imports this one gets a system of its own,
 * started before its tests and removed after them.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { readResults } from '#db/results.ts';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { ask } from '#kit/raw-http.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { type BundleName, startService, type TestService, VOTER_KEY, voteEnv } from '#kit/system.ts';
import { storedVotes } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { Secret } from '#runtime/secret.ts';

export const POLL = 'cats-vs-dogs';
export const VOTES = `/polls/${POLL}/votes`;
export const HOUR_US = 3_600_000_000;
export const PASSWORD = 'a-password-for-ann';
export const ANN = { authorization: `Basic ${Buffer.from(`ann:${PASSWORD}`).toString('base64')}` };
export const JSON_TYPE = { 'content-type': 'application/json' };
export const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' };

/** Hostile values for the free text of a polls file. */
export const HOSTILE = [
  '<script>window.pwned=1</script>',
  '"><img src=x onerror=window.pwned=1>',
  '</title></style><svg onload=window.pwned=1>',
  "'); drop table votes; --",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a template injection, not a template
  '${window.pwned=1}{{7*7}}',
  '=HYPERLINK("http://evil.test","Cats")',
  '\u2028\u2029&lt;b&gt;\u0007',
];
export const POLLS = {
  // The database has applied version 1.
  version: 2,
  polls: [
    {
      id: POLL,
      question: 'Cats or dogs?',
      choices: [
        { id: 'cats', label: 'Cats' },
        { id: 'dogs', label: 'Dogs' },
      ],
    },
    ...HOSTILE.map((question, place) => ({
      id: `hostile-${place}`,
      question,
      choices: HOSTILE.map((label, index) => ({ id: `choice-${index}`, label })),
    })),
  ],
};
/** Markup that must never reach a page as markup. */
export const MARKUP = /<script>window|<img src=x|<svg onload/i;
/** Implementation details that a response must not reveal. */
export const INTERNALS =
  /\bat [^ ]+ ?\(?[^ )]*:\d+:\d+|node_modules|node:internal|\.mjs\b|\.ts:\d|\/work\/|\/dist\/|Error:/;

export const tokens = createVoterTokens(new Secret(VOTER_KEY));

export let database: TestDatabase;
let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
export let other: TestRedis;
export let vote: TestService;
export let secondVote: TestService;
export let worker: TestService;
export let results: TestService;
export let dashboard: TestService;
export let issuer: TestService;
const started: TestService[] = [];

beforeAll(async () => {
  database = await createDatabase();
  folder = await scratchFolder();
  [redis, other] = await Promise.all([startRedis(), startRedis()]);
  const pollsFile = join(folder.path, 'polls.json');
  await writeFile(pollsFile, JSON.stringify(POLLS));
  const start = (bundle: BundleName, env: Record<string, string>, name: string = bundle) =>
    startService({ bundle, name, folder: folder.path, env: { POLLS_FILE: pollsFile, ...env } });
  const counting = { DATABASE_URL: database.url, QUEUE_NODES: `${redis.socket},${other.socket}` };
  const starting = [
    start('vote', voteEnv('one', redis.socket)),
    start('vote', voteEnv('two', other.socket), 'second-vote'),
    start('worker', counting),
    start('results', counting),
    start('dashboard', { ...counting, DASHBOARD_USERS: `ann:${PASSWORD}` }),
    // Each request fails before a check is due.
    start('issuer', {
      VOTER_KEY,
      CHALLENGE: 'turnstile:key',
      SITEVERIFY_SECRET: PASSWORD,
      TOKEN_RATE_MAX: '0',
    }),
  ] as const;
  // Also after a failed start, the others must be ended.
  await Promise.allSettled(starting.map(async (service) => started.push(await service)));
  [vote, secondVote, worker, results, dashboard, issuer] = await Promise.all(starting);
});
afterAll(async () => {
  await Promise.all(started.map((service) => service.end()));
  await Promise.all([redis, other].map((node) => node?.remove()));
  await database?.remove();
  await folder?.remove();
});

export async function votesCaptured(): Promise<number> {
  const ledgers = await Promise.all([redis, other].map((node) => node.client.hgetall('turnout:ledger')));
  const entries = ledgers.flatMap((ledger) => Object.values(ledger));
  return entries.reduce((sum, entry) => sum + Number(entry.split(':')[1]), 0);
}

/** By the first handler. */
export async function requestsRefused(): Promise<number> {
  const { body } = await ask(vote.adminUrl, '/metrics');
  const counts = body.matchAll(/^turnout_vote_problems_total\{.*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

export async function untilAllCounted(): Promise<void> {
  await until('all captured votes are committed', async () => {
    const { ledger } = await readResults(database.db);
    return ledger.committed === (await votesCaptured());
  });
}

interface Cast {
  readonly status: number;
  readonly castAt: string;
  /** The token that came back. */
  readonly token: string;
}

export async function cast(
  service: TestService,
  choice: string,
  token?: string,
  path = VOTES,
): Promise<Cast> {
  const headers = { ...JSON_TYPE, ...(token !== undefined && { authorization: `Bearer ${token}` }) };
  const answer = await ask(service.url, path, 'POST', headers, JSON.stringify({ choice }));
  const [cookie = ''] = [answer.headers['set-cookie'] ?? []].flat();
  const { castAt = '' } = JSON.parse(answer.body) as { castAt?: string };
  return { status: answer.status, castAt, token: /turnout_voter=([^;]+)/.exec(cookie)?.[1] ?? '' };
}

export const voterOf = (token: string): string => tokens.verify(token)?.id ?? 'invalid token';

export async function countedChoice(token: string): Promise<string | undefined> {
  await untilAllCounted();
  return (await storedVotes(database.db)).get(`${POLL} ${voterOf(token)}`)?.[2];
}
