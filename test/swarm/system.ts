import { readFileSync } from 'node:fs';
import type { Cluster } from '#dev/cluster/cluster.ts';
import type { Engine } from '#dev/cluster/engine.ts';
import { ask } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import type { Voters } from './voters.ts';

export const VOTE_HOST = 'votingapp.local';
export const RESULTS_HOST = 'results.votingapp.local';
const DASHBOARD_HOST = 'dashboard.votingapp.local';
export const POLL = 'cats-vs-dogs';
const COUNT_MS_MAX = 90_000;

/** A line of the dashboard's ledger; counted in votes. */
interface Account {
  readonly accepted: number;
  readonly counted: number;
  readonly pending: number;
  readonly failed: number;
  readonly lost: number;
}

interface LedgerAnswer {
  readonly total: Account;
  readonly nodes: readonly (Account & {
    readonly node: string;
    readonly reachable: boolean;
    readonly retired: boolean;
  })[];
  readonly sources: readonly { readonly source: string; readonly jobs: { readonly accepted: number } }[];
}

/** Asks the proxy for a host name, as a browser would that finds it under that name. */
export function askProxy(
  cluster: Cluster,
  host: string,
  path: string,
  options: { method?: string; headers?: Readonly<Record<string, string>>; body?: string } = {},
) {
  const { method = 'GET', headers = {}, body } = options;
  return ask(`http://${cluster.proxyAddress}:80`, path, method, { host, ...headers }, body);
}

/** A password from the file of secrets.sh. */
export function credential(cluster: Cluster, name: string): string {
  const value = new RegExp(`^${name}=(.*)$`, 'm').exec(readFileSync(cluster.credentials, 'utf8'))?.[1];
  if (value === undefined) throw new Error(`no credential ${name}`);
  return value;
}

export const basicAuth = (cluster: Cluster, name: 'operator' | 'statistics'): Record<string, string> => ({
  authorization: `Basic ${btoa(`operator:${credential(cluster, name)}`)}`,
});

/** The audit, as the dashboard tells it. */
export async function readLedger(cluster: Cluster): Promise<LedgerAnswer> {
  const { status, body } = await askProxy(cluster, DASHBOARD_HOST, '/ledger', {
    headers: basicAuth(cluster, 'operator'),
  });
  if (status !== 200) throw new Error(`the dashboard answers ${status}: ${body}`);
  return JSON.parse(body);
}

/**
 * Waits until everything that was accepted is counted; gives the ledger that says so. While a node is away the dashboard
 * cannot know what it has taken last, so the ledger must have heard of every job that these voters have a receipt from.
 */
export function untilCounted(cluster: Cluster, voters?: Voters): Promise<LedgerAnswer> {
  const lastJobs = new Map<string, number>();
  for (const { source, seq } of voters?.jobs() ?? []) {
    lastJobs.set(source, Math.max(seq, lastJobs.get(source) ?? 0));
  }
  return until(
    'every accepted vote is counted',
    async () => {
      const ledger = await readLedger(cluster);
      const jobs = new Map(ledger.sources.map(({ source, jobs: { accepted } }) => [source, accepted]));
      const isKnown = [...lastJobs].every(([source, seq]) => (jobs.get(source) ?? 0) >= seq);
      const isReached = ledger.nodes.every(({ reachable, retired }) => reachable || retired);
      return isKnown && isReached && ledger.total.pending === 0 && ledger;
    },
    COUNT_MS_MAX,
  );
}

/** The container of a service that runs on a node now; `service` is its name within the stack. */
export async function containerOf(engine: Engine, service: string): Promise<string> {
  const filter = [
    '--filter',
    `label=com.docker.swarm.service.name=turnout_${service}`,
    '--filter',
    'status=running',
  ];
  const [id] = (await engine.docker('ps', '--quiet', '--no-trunc', ...filter)).split('\n').filter(Boolean);
  if (id === undefined) throw new Error(`${service} does not run on ${engine.node.name}`);
  return id;
}

/** Asks Postgres, as its superuser, on its own node. */
async function query(cluster: Cluster, statement: string): Promise<string[]> {
  const store = cluster.engine('store');
  const psql = [
    'psql',
    '--host=/tmp',
    '--username=postgres',
    '--dbname=turnout',
    '--no-align',
    '--tuples-only',
  ];
  const output = await store.docker(
    'exec',
    await containerOf(store, 'postgres'),
    ...psql,
    '--command',
    statement,
  );
  return output.split('\n').filter(Boolean);
}

const TALLIES_THAT_DIFFER = `
  select choice_id, tally, recount
  from (select choice_id, sum(votes) as tally from tallies where poll_id = '${POLL}' group by choice_id) as t
  full join (select choice_id, count(*) as recount from votes where poll_id = '${POLL}' group by choice_id) as v
    using (choice_id)
  where coalesce(tally, 0) <> coalesce(recount, 0)`;

/** What the tables say differently from what the voters wrote down; empty when every 202 counts, and counts once. */
export async function compare(cluster: Cluster, voters: Voters): Promise<string[]> {
  const rows = await query(cluster, `select voter_id, choice_id from votes where poll_id = '${POLL}'`);
  const stored = new Map(rows.map((row) => row.split('|') as [string, string]));
  const differences: string[] = [];
  if (voters.accepted.size === 0) differences.push('nobody has voted');
  // The running counts against the votes: what is counted twice, or not at all, shows there.
  for (const row of await query(cluster, TALLIES_THAT_DIFFER))
    differences.push(`tally and recount differ: ${row}`);
  for (const [voter, { choice }] of voters.accepted) {
    if (voters.uncertain.has(voter)) continue;
    const found = stored.get(voter);
    if (found !== choice) differences.push(`${voter}: accepted ${choice}, stored ${found}`);
  }
  return differences;
}
