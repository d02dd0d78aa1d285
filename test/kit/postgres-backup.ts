import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { findProgram } from '#dev/path.mjs';
import { ROOT } from '#dev/root.ts';
import { findBinaries, withoutRoot } from '#dev/start/postgres-server.ts';

const SCRIPT = join(ROOT, 'stack/images/postgres-backup.sh');
const RUN_MS_MAX = 50_000;

/** Whether this machine has what the script needs besides PostgreSQL. */
export const canBackUp = (): boolean => ['psql', 'flock'].every((name) => findProgram(name));

/** A server whose backups go to a folder. */
export interface BackupTarget {
  readonly dataDir: string;
  readonly backupDir: string;
  readonly port: number;
  /** Of the superuser. */
  readonly password: string;
}

/** Arguments of a server that archives its WAL with the script. */
export function archiveArgs(backupDir: string): string[] {
  const command = `BACKUP_DIR=${backupDir} bash ${SCRIPT} archive "%p" "%f"`;
  return ['-c', 'archive_mode=on', '-c', `archive_command=${command}`];
}

/**
 * Runs `postgres-backup.sh` as the user of the server.
 *
 * @returns standard output and standard error
 * @throws an Error with both when the script fails
 */
export async function runBackup(
  { dataDir, backupDir, port, password }: BackupTarget,
  ...args: string[]
): Promise<string> {
  const { postgres } = await findBinaries();
  const command = withoutRoot({ command: 'bash', args: [SCRIPT, ...args] });
  const run = promisify(execFile)(command.command, command.args, {
    timeout: RUN_MS_MAX,
    env: {
      PATH: `${dirname(postgres)}:${process.env['PATH']}`,
      BACKUP_DIR: backupDir,
      BACKUPS_KEPT: '2',
      PGDATA: dataDir,
      PGHOST: '127.0.0.1',
      PGPORT: String(port),
      PGPASSWORD: password,
      POSTGRES_LOCK: `${dataDir}.lock`,
    },
  });
  const { stdout, stderr } = await run;
  return `${stdout}${stderr}`;
}
