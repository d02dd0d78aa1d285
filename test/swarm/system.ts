import { readFileSync } from 'node:fs';
import type { Cluster } from '#dev/cluster/cluster.ts';
import type { Engine } from '#dev/cluster/engine.ts';
import type { PollJson } from '#handlers/dashboard/polls-cards.ts';
import { ask } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import type { Voters } from './voters.ts';

export const VOTE_HOST = 'votingapp.local';
export const RESULTS_HOST = 'results.votingapp.local';
const DASHBOARD_HOST = 'dashboard.votingapp.local';
export const POLL = 'cats-vs-dogs';
const COUNT_MS_MAX = 90_000;

/** Outcomes of a node or of the whole system, in votes. */
interface Outcomes {
  readonly accepted: number;
  readonly counted: number;
  readonly pending: number;
  readonly failed: number;
  readonly lost: number;
}

interface AuditView {
  readonly total: Outcomes;
  readonly nodes: readonly (Outcomes & {
    readonly name: string;
    readonly state: string;
    readonly reachable: boolean;
  })[];
  readonly sources: readonly { readonly source: string; readonly jobs: { readonly accepted: number } }[];
}

/** Sends a request to the proxy with a `Host` header. */
export function askProxy(
  cluster: Cluster,
  host: string,
  path: string,
  options: { method?: string; headers?: Readonly<Record<string, string>>; body?: string } = {},
) {
  const { method = 'GET', headers = {}, body } = options;
  return ask(`http://${cluster.proxyAddress}:80`, path, method, { host, ...headers }, body);
}

/** Returns a password from the file that secrets.sh wrote. */
export function credential(cluster: Cluster, name: string): string {
  const value = new RegExp(`^${name}=(.*)$`, 'm').exec(readFileSync(cluster.credentials, 'utf8'))?.[1];
  if (value === undefined) throw new Error(`${cluster.credentials} has no credential ${name}`);
  return value;
}

export const basicAuth = (cluster: Cluster, name: 'operator' | 'statistics'): Record<string, string> => ({
  authorization: `Basic ${btoa(`operator:${credential(cluster, name)}`)}`,
});

/** Returns the audit of the dashboard. */
export async function readAudit(cluster: Cluster): Promise<AuditView> {
  const { status, body } = await askProxy(cluster, DASHBOARD_HOST, '/ledger', {
    headers: basicAuth(cluster, 'operator'),
  });
  if (status !== 200) throw new Error(`the dashboard responds ${status}: ${body}`);
  return JSON.parse(body);
}

/** Returns the polls as the dashboard reports them. */
export async function readPolls(cluster: Cluster): Promise<PollJson[]> {
  const { status, body } = await askProxy(cluster, DASHBOARD_HOST, '/polls', {
    headers: basicAuth(cluster, 'operator'),
  });
  if (status !== 200) throw new Error(`the dashboard responds ${status}: ${body}`);
  return JSON.parse(body);
}

/** Returns the status of a receipt, from the results service. */
export async function askReceipt(cluster: Cluster, receipt: string): Promise<string> {
  const { body } = await askProxy(cluster, RESULTS_HOST, `/receipts/${receipt}`);
  return (JSON.parse(body) as { status: string }).status;
}

/**
 * Waits until every accepted vote is counted, and returns the audit that shows it. The dashboard shows an unreachable node by
 * its last reading, so the audit must include every job for which these voters have a receipt.
 */
export function untilCounted(cluster: Cluster, voters?: Voters): Promise<AuditView> {
  const lastJobs = new Map<string, number>();
  for (const { source, seq } of voters?.jobs() ?? []) {
    lastJobs.set(source, Math.max(seq, lastJobs.get(source) ?? 0));
  }
  return until(
    'every accepted vote is counted',
    async () => {
      const audit = await readAudit(cluster);
      const jobs = new Map(audit.sources.map(({ source, jobs: { accepted } }) => [source, accepted]));
      const isKnown = [...lastJobs].every(([source, seq]) => (jobs.get(source) ?? 0) >= seq);
      const isComplete = audit.nodes.every(({ reachable, state }) => reachable || state === 'retired');
      return isKnown && isComplete && audit.total.pending === 0 && audit;
    },
    COUNT_MS_MAX,
  );
}

/** Returns the id of a service's running container on a node; `service` is its name within the stack. */
export async function containerOf(engine: Engine, service: string): Promise<string> {
  const filter = [
    '--filter',
    `label=com.docker.swarm.service.name=turnout_${service}`,
    '--filter',
    'status=running',
  ];
  const [id] = (await engine.docker('ps', '--quiet', '--no-trunc', ...filter)).split('\n').filter(Boolean);
  if (id === undefined) throw new Error(`${service} is not running on ${engine.node.name}`);
  return id;
}

/** Runs a statement as superuser on the Postgres node; returns the lines of its output. */
export async function query(cluster: Cluster, statement: string): Promise<string[]> {
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

const votesOf = (poll: string): string => `
  select voter_id, choices.id
  from votes
  join polls on polls.no = votes.poll_no
  join choices on choices.poll_no = votes.poll_no and choices.no = votes.choice_no
  where polls.id = '${poll}'`;

const TALLIES_THAT_DIFFER = `
  select choice_no, tally, recount
  from (select poll_no, choice_no, sum(votes) as tally from tallies group by poll_no, choice_no) as t
  full join (select poll_no, choice_no, count(*) as recount from votes group by poll_no, choice_no) as v
    using (poll_no, choice_no)
  where coalesce(tally, 0) <> coalesce(recount, 0)`;

/** Returns the differences between the tables and the voters' records; none if every 202 counts exactly once. */
export async function compare(cluster: Cluster, voters: Voters): Promise<string[]> {
  const rows = await query(cluster, votesOf(voters.poll));
  const stored = new Map(rows.map((row) => row.split('|') as [string, string]));
  const differences: string[] = [];
  if (voters.accepted.size === 0) differences.push('no vote was accepted');
  // A vote counted twice, or not at all, makes its tally differ.
  for (const row of await query(cluster, TALLIES_THAT_DIFFER))
    differences.push(`tally and recount differ: ${row}`);
  for (const [voter, { choice }] of voters.accepted) {
    if (voters.uncertain.has(voter)) continue;
    const found = stored.get(voter);
    if (found !== choice) differences.push(`${voter}: accepted ${choice}, stored ${found}`);
  }
  return differences;
}
