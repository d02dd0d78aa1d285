import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { collectAnomalies } from '#audit/anomalies.ts';
import { anomalyChapters } from '#audit/anomaly-sections.ts';
import { findTarget, readAuditEnvironment } from '#audit/cli/target.ts';
import { collectAudit, connectNodes } from '#audit/collect.ts';
import { sumOutcomes } from '#audit/reconcile.ts';
import { verdictOf } from '#audit/report.ts';
import { openDb } from '#db/client.ts';
import { plain, Terminal } from '#dev/terminal.ts';
import { startLoadProcess } from '../load/process.ts';
import { watchBacklog } from './backlog.ts';
import { confirmHosts, hostsToConfirm } from './confirm.ts';
import { crowdOf, type GroupLoad } from './crowd.ts';
import { injectFaults, requireProcesses } from './faults.ts';
import { HELP, parseRehearseOptions, type RehearseOptions } from './options.ts';
import { openRehearsalPoll, type RehearsalPoll, requirePoll } from './poll.ts';
import { type Report, renderReport, verdictText } from './report.ts';
import { judge, type Rehearsal } from './verdict.ts';

/** `npm run rehearse`: sends a crowd to a running system and reports whether it is ready. See `HELP`. */
const STATEMENT_MS_MAX = 30_000;
const UNTIL_MS_MAX = 10 * 60_000;
const ANOMALIES_MS_MAX = 10 * 60_000;
const DATA_DEFAULT = '.turnout';
const EXIT_CODES = { ready: 0, 'not ready': 1, lost: 1, unproven: 1, failed: 2 } as const;

const terminal = new Terminal(process.stdout, process.stderr, plain);
/** Leaves no open poll behind. */
let cleanUp: () => Promise<void> = async () => {};

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void cleanUp().finally(() => process.exit(130)));
}
process.exit(await exitCode());

async function exitCode(): Promise<number> {
  try {
    const options = parseRehearseOptions(process.argv.slice(2));
    if (options !== 'help') return await run(options);
    terminal.line(HELP);
    return 0;
  } catch (error) {
    terminal.error(error);
    await cleanUp().catch(() => {});
    return EXIT_CODES.failed;
  }
}

async function run(options: RehearseOptions): Promise<number> {
  const { targets, voters, minutes, against, out } = options;
  await confirmHosts(hostsToConfirm(targets), against, `a crowd of ${voters} voters`, terminalAsk());
  const data = resolve(options.data ?? DATA_DEFAULT);
  if (options.hasFaults) requireProcesses(data);
  const target = findTarget(options, readAuditEnvironment());
  const db = openDb({
    url: target.databaseUrl.reveal(),
    connectionsMax: 4,
    statementMsMax: STATEMENT_MS_MAX,
    name: 'turnout-rehearse',
    onIdleError: () => {},
  });
  const startedAt = new Date().toISOString();
  const seconds = minutes * 60;
  const queues = await connectNodes(await target.discover());
  const poll = await terminal.step('Opening a hidden poll', () =>
    openRehearsalPoll(db, queues, seconds * 1_000),
  );
  cleanUp = () => poll.close();
  for (const { url } of targets) await requirePoll(url, poll.id);

  const crowd = crowdOf(voters, seconds, targets, poll.id);
  const watch = await watchBacklog(db, queues);
  const { results, faults, sentAt } = await sendCrowd(crowd, { ...options, data, seconds });
  const answeredAt = performance.now();
  const since = (isDone: boolean) => (isDone ? performance.now() - answeredAt : undefined);
  const [countedMs, finalMs] = await terminal.step(
    'Closing the poll, until its result is final',
    async () => {
      await poll.close();
      return Promise.all([
        watch.untilCounted(UNTIL_MS_MAX).then(since),
        poll.untilFinal(UNTIL_MS_MAX).then(since),
      ]);
    },
  );
  cleanUp = async () => {};
  const backlog = await watch.end(sentAt);
  const audit = await terminal.step('Auditing all nodes', () =>
    collectAudit({ db, discover: target.discover }),
  );
  const anomalies = await terminal.step('Reading how votes came in', () =>
    collectAnomalies({ db, poll: poll.id, msMax: ANOMALIES_MS_MAX }),
  );
  const outcomes = sumOutcomes(audit.rows ?? []);
  const rehearsal: Rehearsal = {
    groups: await withCounts(crowd, results, poll),
    countedMs,
    finalMs,
    audit: { verdict: verdictOf(audit), lost: outcomes.lost },
    faults,
  };
  const report: Report = {
    startedAt,
    poll: poll.id,
    targets: targets.map(({ url }) => url),
    voters,
    minutes,
    rehearsal,
    verdict: judge(rehearsal),
    backlog,
    outcomes,
    anomalies: anomalyChapters(anomalies).slice(0, 1),
  };
  if (finalMs !== undefined) await poll.forget();
  terminal.line(verdictText(report));
  terminal.line(`\n${writeReport(report, resolve(out))}`);
  return EXIT_CODES[report.verdict.outcome];
}

/** Sends all groups at the same time, each from a process of its own. */
async function sendCrowd(
  crowd: readonly GroupLoad[],
  { hasFaults, data, seconds }: Pick<RehearseOptions, 'hasFaults'> & { data: string; seconds: number },
) {
  const loads = crowd.map(() => startLoadProcess());
  const faulting = new AbortController();
  try {
    await terminal.step('Opening connections', () =>
      Promise.all(loads.map((load, index) => load.prepare((crowd[index] as GroupLoad).spec))),
    );
    return await terminal.step(`Sending the crowd for ${seconds} s`, async () => {
      const sentAt = performance.now();
      const faults = hasFaults ? injectFaults(data, seconds, faulting.signal) : [];
      const results = await Promise.all(loads.map((load) => load.run()));
      return { results, faults: await faults, sentAt };
    });
  } finally {
    faulting.abort();
    await Promise.all(loads.map((load) => load.end()));
  }
}

async function withCounts(
  crowd: readonly GroupLoad[],
  results: Awaited<ReturnType<typeof sendCrowd>>['results'],
  poll: RehearsalPoll,
): Promise<Rehearsal['groups']> {
  const counted = await poll.counted();
  return results.map((result, index) => {
    const { group, spec } = crowd[index] as GroupLoad;
    return { group, connections: spec.connections, result, counted: counted.get(group.id) ?? 0 };
  });
}

/** Writes the report as a page and as JSON. @returns their paths, one a line */
function writeReport(report: Report, folder: string): string {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, report.poll);
  writeFileSync(`${path}.json`, `${JSON.stringify(report)}\n`);
  writeFileSync(`${path}.html`, renderReport(report));
  return `${path}.json\n${path}.html`;
}

function terminalAsk() {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return undefined;
  return async (question: string): Promise<string> => {
    const lines = createInterface({ input: process.stdin, output: process.stdout });
    try {
      return await lines.question(question);
    } finally {
      lines.close();
    }
  };
}
