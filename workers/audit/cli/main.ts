import { auditTallies } from '#db/audit.ts';
import { openDb } from '#db/client.ts';
import { coloured, plain, Terminal } from '#dev/terminal.ts';
import { collectAudit } from '../collect.ts';
import { auditJson, EXIT_CODES, verdictOf } from '../report.ts';
import { anomaliesJson, anomaliesText, anomaliesWithProgress } from './anomalies.ts';
import { runCommand } from './run.ts';
import {
  AUDIT_HELP,
  type AuditOptions,
  findTarget,
  parseAuditOptions,
  readAuditEnvironment,
} from './target.ts';
import { auditText } from './text.ts';

const STATEMENT_MS_MAX = 30_000;
/** Deadline of a recount, and of the anomaly report: both read every vote. */
const ALL_VOTES_MS_MAX = 3_600_000;
/** Sources and nodes are read concurrently. */
const CONNECTIONS_MAX = 2;

await runCommand({ parse: parseAuditOptions, help: AUDIT_HELP, run, failureCode: EXIT_CODES.unknown });

async function run(options: AuditOptions, terminal: Terminal): Promise<number> {
  const environment = readAuditEnvironment();
  const target = findTarget(options, environment);
  const db = openDb({
    url: target.databaseUrl.reveal(),
    connectionsMax: CONNECTIONS_MAX,
    statementMsMax: options.isRecounted || options.isAnomalies ? ALL_VOTES_MS_MAX : STATEMENT_MS_MAX,
    name: 'turnout-audit',
    onIdleError: () => {},
  });
  // Standard output holds only the report.
  const progress = new Terminal(process.stderr, process.stderr, plain);
  const paint = process.stdout.isTTY && !environment.noColor ? coloured : plain;
  if (options.isAnomalies) {
    const parts = { db, poll: options.poll, msMax: ALL_VOTES_MS_MAX };
    const found = await anomaliesWithProgress(parts, progress);
    terminal.line(options.isJson ? anomaliesJson(found) : anomaliesText(found, target.name, paint));
    return EXIT_CODES.good;
  }
  const recount = () => progress.step('Recounting all votes', () => auditTallies(db));
  const report = await collectAudit({
    db,
    discover: target.discover,
    recount: options.isRecounted ? recount : undefined,
  });
  terminal.line(options.isJson ? auditJson(report) : auditText(report, target.name, paint));
  return EXIT_CODES[verdictOf(report)];
}
