import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArguments } from '#dev/arguments.ts';
import { StartError } from '#dev/errors.ts';
import { readConfig, type Setting, settings } from '#runtime/config.ts';
import { type Discover, discoverNodes } from '#runtime/discovery.ts';
import type { Secret } from '#runtime/secret.ts';

const DATA_DEFAULT = '.turnout';

export const AUDIT_HELP = `Usage: npm run audit -- [options]

Accounts for every accepted vote.

  --recount   also recount all votes and compare the tallies; reads every vote
  --anomalies instead report how votes came in: times, rates, bursts; reads every vote
  --poll POLL only this poll, with --anomalies
  --data DIR  data folder of an npm start (default ${DATA_DEFAULT})
  --json      print JSON
  --help      show this text

Environment: DATABASE_URL and QUEUE_NODES select another system; --data takes precedence.

Exit code: 0 if nothing is lost, 1 if votes are lost or unexplained, a tally differs from the recount, or a node holds
another node's jobs, 2 if a part is unreachable. The report of --anomalies has no verdict: 0, or 2 if it failed.`;

/** The options of the command line. */
export interface AuditOptions {
  /** The data folder as typed; `undefined` without --data. */
  readonly data: string | undefined;
  readonly isJson: boolean;
  readonly isRecounted: boolean;
  /** Reports how votes came in instead of auditing them. */
  readonly isAnomalies: boolean;
  /** The only poll to report; `undefined` for all. */
  readonly poll: string | undefined;
}

/** The audit's settings from the environment. */
export interface AuditEnvironment {
  readonly databaseUrl: Secret | undefined;
  readonly queueNodes: Secret | undefined;
  readonly noColor: boolean;
}

/** The system to audit. */
export interface AuditTarget {
  /** For people. */
  readonly name: string;
  readonly databaseUrl: Secret;
  readonly discover: Discover;
}

/**
 * Parses the command line.
 *
 * @returns `help` for --help
 * @throws StartError with one line for an unknown option
 */
export function parseAuditOptions(args: readonly string[]): AuditOptions | 'help' {
  const { values } = parseArguments(args, {
    options: {
      data: { type: 'string' },
      json: { type: 'boolean', default: false },
      anomalies: { type: 'boolean', default: false },
      poll: { type: 'string' },
      recount: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  if (values.data === '') throw new StartError('--data must name a folder');
  const { data, json: isJson, recount: isRecounted, anomalies: isAnomalies, poll } = values;
  if (isAnomalies && isRecounted) throw new StartError('--anomalies recounts nothing; leave out --recount');
  if (poll !== undefined && !isAnomalies) throw new StartError('--poll needs --anomalies');
  return { data, isJson, isRecounted, isAnomalies, poll };
}

/** Reads the environment. @throws ConfigError listing every malformed setting */
export function readAuditEnvironment(environment?: NodeJS.ProcessEnv): AuditEnvironment {
  const { noColor, ...where } = readConfig(
    {
      databaseUrl: optional(settings.databaseUrl),
      queueNodes: optional(settings.queueNodes),
      noColor: { name: 'NO_COLOR', parse: (text: string) => text !== '', fallback: '' },
    },
    environment,
  );
  return { ...where, noColor };
}

function optional<T>({ name, parse }: Setting<T>): Setting<T | undefined> {
  return { name, fallback: '', parse: (text) => (text === '' ? undefined : parse(text)) };
}

/**
 * Returns the system to audit: that of --data, else that of the environment, else that of the default data folder.
 *
 * @throws StartError when the folder holds no system, ConfigError when its files or `QUEUE_NODES` cannot be parsed
 */
export function findTarget({ data }: Pick<AuditOptions, 'data'>, environment: AuditEnvironment): AuditTarget {
  const { databaseUrl, queueNodes } = data === undefined ? environment : ({} as Partial<AuditEnvironment>);
  const folder = data ?? DATA_DEFAULT;
  const isElsewhere = databaseUrl !== undefined && queueNodes !== undefined;
  const written = isElsewhere ? undefined : readDataFolder(resolve(folder));
  return {
    name: isElsewhere ? 'DATABASE_URL and QUEUE_NODES' : folder,
    databaseUrl: databaseUrl ?? (written as WrittenTarget).databaseUrl,
    discover: discoverNodes(queueNodes ?? (written as WrittenTarget).queueNodes),
  };
}

interface WrittenTarget {
  readonly databaseUrl: Secret;
  readonly queueNodes: Secret;
}

/** Reads what `npm start` recorded: the database, and the queue of every frontend that ever ran on the folder. */
function readDataFolder(path: string): WrittenTarget {
  const queueNodesFile = `${path}/queue-nodes`;
  if (!existsSync(queueNodesFile)) {
    throw new StartError(
      `no system in ${path}: run npm start, name another folder with --data, or set DATABASE_URL and QUEUE_NODES`,
    );
  }
  return readConfig(
    { databaseUrl: settings.databaseUrl, queueNodes: settings.queueNodes },
    { DATABASE_URL_FILE: `${path}/secrets/database.url`, QUEUE_NODES_FILE: queueNodesFile },
  );
}
