import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkPostgres, postgresCommand, postgresUrl, preparePostgres } from '#dev/start/postgres-server.ts';
import { archiveArgs, type BackupTarget, canBackUp, runBackup } from '#kit/postgres-backup.ts';
import { freePort, scratchFolder, startProgram, type TestProcess } from '#kit/process.ts';
import { until } from '#kit/until.ts';

const PASSWORD = 'test';
/** Several servers are created, restored and started in one test. */
const RESTORES_MS_MAX = 180_000;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let target: BackupTarget;
let server: TestProcess;

async function start(): Promise<void> {
  const extra = archiveArgs(target.backupDir);
  const { command, args } = await postgresCommand({ ...target, extra });
  server = startProgram(command, args, { log: join(folder.path, 'postgres.log') });
  await until('Postgres is ready', async () => (await checkPostgres(postgresUrl(target))) === undefined);
}

async function query(statement: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: postgresUrl({ ...target, user: 'postgres' }) });
  await client.connect();
  try {
    const { rows } = await client.query<Record<string, unknown>>(statement);
    return rows.map((row) => String(Object.values(row)[0]));
  } finally {
    await client.end();
  }
}

/** Adds a row and returns the time of Postgres after its commit. */
async function add(word: string): Promise<string> {
  await query(`insert into words values ('${word}')`);
  return (await query('select clock_timestamp()::timestamptz(6)::text'))[0] as string;
}

const words = () => query('select word from words order by word');
const run = (...args: string[]) => runBackup(target, ...args);
const failure = (...args: string[]): Promise<string> =>
  run(...args).then(
    (output) => `it succeeded: ${output}`,
    (error: { stdout: string; stderr: string }) => `${error.stdout}${error.stderr}`,
  );
const segments = () => readdirSync(join(target.backupDir, 'wal')).toSorted();
const bases = () => readdirSync(join(target.backupDir, 'base')).toSorted();

/** Ends the current segment and waits until it is archived. */
async function archive(): Promise<void> {
  const [name = ''] = await query('select pg_walfile_name(pg_switch_wal())');
  await until('the segment is archived', () => segments().includes(`${name}.gz`));
}

beforeEach(async () => {
  folder = await scratchFolder();
  const backupDir = join(folder.path, 'backup');
  mkdirSync(backupDir);
  target = { dataDir: join(folder.path, 'data'), backupDir, port: await freePort(), password: PASSWORD };
  await preparePostgres(target.dataDir, PASSWORD);
  await start();
  await query('create table words (word text)');
});
afterEach(async () => {
  await server.end('SIGINT');
  await folder.remove();
});

describe.skipIf(!canBackUp())('postgres-backup.sh', { timeout: RESTORES_MS_MAX }, () => {
  test('restores to a moment, and later to the newest state', async () => {
    await add('before the backup');
    await run('backup');
    const moment = await add('kept');
    await add('dropped');
    await server.end('SIGINT');

    expect(await run('restore', '--to', moment)).toContain('The old data is in');
    await start();
    expect(await words()).toEqual(['before the backup', 'kept']);
    await add('new');
    await server.end('SIGINT');

    // The earlier moment no longer applies, and the archive has both timelines.
    await run('restore');
    await start();
    expect(await words()).toEqual(['before the backup', 'kept', 'new']);
    expect(readdirSync(folder.path).filter((name) => name.startsWith('data.before-')).length).toBeGreaterThan(
      0,
    );
  });

  test('restores onto an empty disk what was archived', async () => {
    await run('backup');
    await add('archived');
    await archive();
    await server.end('SIGKILL');
    rmSync(target.dataDir, { recursive: true });
    target = { ...target, dataDir: join(folder.path, 'new/18/data') };
    await run('restore');
    await start();
    expect(await words()).toEqual(['archived']);
  });

  test('a drill reads every table and leaves nothing behind', async () => {
    await run('backup');
    await add('archived');
    await archive();
    const before = segments();
    const output = await run('drill');
    expect(output).toContain('words|1');
    expect(output).toContain('The drill succeeded.');
    expect(segments()).toEqual(before);
    expect(readdirSync(target.backupDir).toSorted()).toEqual(['base', 'lock', 'wal']);
    expect(await words()).toEqual(['archived']);
  });

  test('changes nothing when the moment cannot be reached', async () => {
    await run('backup');
    await add('archived');
    await server.end('SIGINT');
    expect(await failure('restore', '--to', '2100-01-01T00:00:00Z')).toContain('the recovery failed');
    expect(await failure('restore', '--to', '2000-01-01T00:00:00Z')).toContain('no backup ended before');
    expect(await failure('restore', '--to', '2100-01-01T00:00:00')).toContain('has no time zone');
    expect(readdirSync(folder.path).filter((name) => name.startsWith('data'))).toEqual(['data', 'data.lock']);
    await start();
    expect(await words()).toEqual(['archived']);
  });

  test('a restore refuses while PostgreSQL holds the lock of its data', async () => {
    await run('backup');
    const lock = startProgram('flock', [`${target.dataDir}.lock`, 'sleep', '60'], {
      log: join(folder.path, 'flock.log'),
    });
    try {
      await until('the lock exists', () => existsSync(`${target.dataDir}.lock`));
      await until('the lock is held', async () =>
        (await failure('restore')).includes('PostgreSQL runs on this data'),
      );
    } finally {
      await lock.end('SIGKILL');
    }
  });

  test('verify names a damaged backup, a damaged and a missing WAL segment', async () => {
    await run('backup');
    for (const word of ['one', 'two', 'three']) {
      await add(word);
      await archive();
    }
    expect(await run('verify')).toMatch(/^1 backups/m);
    const names = segments().filter((name) => /^[0-9A-F]{24}\.gz$/.test(name));
    const [second = '', last = ''] = [names.at(-2), names.at(-1)];
    truncateSync(join(target.backupDir, 'wal', last), 100);
    expect(await failure('verify')).toContain(`WAL segment ${last.replace('.gz', '')} is damaged`);
    rmSync(join(target.backupDir, 'wal', second));
    expect(await failure('verify')).toContain(`WAL is missing before ${last.replace('.gz', '')}: 1 segments`);
    const [base = ''] = bases();
    truncateSync(join(target.backupDir, 'base', base, 'base.tar.gz'), 1_000);
    expect(await failure('verify')).toContain(`Backup ${base} is damaged`);
    expect(await failure('drill')).toContain(`backup ${base} is damaged`);
  });

  test('a damaged WAL segment stops a restore instead of ending it early', async () => {
    await run('backup');
    await add('archived');
    await archive();
    await server.end('SIGKILL');
    rmSync(target.dataDir, { recursive: true });
    const last = segments().findLast((name) => /^[0-9A-F]{24}\.gz$/.test(name)) as string;
    truncateSync(join(target.backupDir, 'wal', last), 100);
    expect(await failure('restore')).toContain('the recovery failed');
    expect(existsSync(target.dataDir)).toBe(false);
  });

  test('an archived segment is never overwritten by another', async () => {
    await run('backup');
    const file = join(folder.path, 'segment');
    writeFileSync(file, 'first');
    await run('archive', file, '0000000100000000000000FF');
    await run('archive', file, '0000000100000000000000FF');
    writeFileSync(file, 'second');
    expect(await failure('archive', file, '0000000100000000000000FF')).toContain(
      'already has another content',
    );
  });

  test('keeps the newest backups and the WAL that they need', async () => {
    for (let count = 1; count <= 3; count++) {
      await add(`backup ${count}`);
      await run('backup');
      // Names are seconds.
      const [newest] = bases().toReversed();
      await until(
        'another second',
        async () =>
          (await query('select to_char(now() at time zone \'UTC\', \'YYYYMMDD"T"HH24MISS"Z"\')'))[0] !==
          newest,
      );
    }
    expect(bases()).toHaveLength(2);
    const info = readFileSync(join(target.backupDir, 'base', bases()[0] as string, 'info'), 'utf8');
    const first = /^first=(.*)$/m.exec(info)?.[1];
    expect(segments()[0]).toMatch(new RegExp(`^${first}`));
    await run('verify');
    await run('drill');
  });
});
