import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArguments } from '#dev/arguments.ts';
import { StartError } from '#dev/errors.ts';
import { readConfig, type Setting, settings } from '#runtime/config.ts';
import { type Discover, discoverNodes } from '#runtime/discovery.ts';
import type { Secret } from '#runtime/secret.ts';

const DATA_DEFAULT = '.turnout';

export const AUDIT_HELP = `Usage: npm run audit -- [options]

Accounts for every accepted vote, and compares the tallies with a recount.

  --data DIR  the data folder of the npm start to look at (default ${DATA_DEFAULT})
  --json      for programs
  --help      this text

Environment: DATABASE_URL and QUEUE_NODES, where set, say where to look instead of the folder; --data overrules them.

Exit code: 0 nothing is lost and the tallies agree, 1 something is lost or a tally differs, 2 it could not look everywhere.`;

/** What the user asked for. */
export interface AuditOptions {
  /** The data folder as typed; `undefined` when nobody named one. */
  readonly data: string | undefined;
  readonly isJson: boolean;
}

/** What the audit takes from its environment. */
export interface AuditEnvironment {
  readonly databaseUrl: Secret | undefined;
  readonly queueNodes: Secret | undefined;
  readonly noColor: boolean;
}

/** Where to look. */
export interface AuditTarget {
  /** For people. */
  readonly name: string;
  readonly databaseUrl: Secret;
  readonly discover: Discover;
}

/**
 * Reads the command line.
 *
 * @returns `help` when that was asked for
 * @throws StartError in one line when an option is unknown
 */
export function parseAuditOptions(args: readonly string[]): AuditOptions | 'help' {
  const { values } = parseArguments(args, {
    options: {
      data: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  if (values.data === '') throw new StartError('--data must name a folder');
  return { data: values.data, isJson: values.json };
}

/** @throws ConfigError listing every setting that cannot be understood */
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
 * Returns where to look: the data folder that the user named, else what the environment says, else the usual data folder.
 *
 * @throws StartError when the folder holds no system, ConfigError when its files or `QUEUE_NODES` cannot be parsed
 */
export function findTarget({ data }: AuditOptions, environment: AuditEnvironment): AuditTarget {
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

/** Reads what `npm start` wrote down: the database, and the queue of every frontend that ever ran on the folder. */
function readDataFolder(path: string): WrittenTarget {
  const queueNodesFile = `${path}/queue-nodes`;
  if (!existsSync(queueNodesFile)) {
    throw new StartError(
      `there is no system in ${path}: npm start makes one, --data names another, or set DATABASE_URL and QUEUE_NODES`,
    );
  }
  return readConfig(
    { databaseUrl: settings.databaseUrl, queueNodes: settings.queueNodes },
    { DATABASE_URL_FILE: `${path}/secrets/database.url`, QUEUE_NODES_FILE: queueNodesFile },
  );
}
