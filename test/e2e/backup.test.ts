import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { auditSources, auditTallies } from '#db/audit.ts';
import { postgresUrl } from '#dev/start/postgres-server.ts';
import { parseJobKey } from '#job';
import { castAccepted, castCounted, isCounted, untilCounted } from '#kit/cast.ts';
import { executeAt } from '#kit/postgres.ts';
import { archiveArgs, type BackupTarget, canBackUp, runBackup } from '#kit/postgres-backup.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';
import { type ChaosSystem, type Frontend, PASSWORD, startSystem } from '../chaos/system.ts';

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let system: ChaosSystem;
let target: BackupTarget;

beforeAll(async () => {
  folder = await scratchFolder();
  const backupDir = join(folder.path, 'backup');
  mkdirSync(backupDir);
  system = await startSystem({ frontends: 2, workers: 1, postgresArgs: archiveArgs(backupDir) });
  const { postgresDir: dataDir, postgresPort: port } = system;
  target = { dataDir, backupDir, port, password: PASSWORD };
});
afterAll(async () => {
  await system?.stop();
  await folder.remove();
});

const segments = () =>
  readdirSync(join(target.backupDir, 'wal')).filter((name) => !name.startsWith('.')).length;
/** Ends the WAL segment and waits until it is archived. The owner of the database may not do this. */
async function archive(): Promise<void> {
  const url = postgresUrl({ port: target.port, password: PASSWORD, user: 'postgres' });
  const before = segments();
  await executeAt(url, 'select pg_switch_wal()');
  await until('a further segment is archived', () => segments() > before);
}

describe.skipIf(!canBackUp())('a store that is lost after a backup', () => {
  test('is restored, the nodes are drained again, and the audit names exactly what is missing', async () => {
    const { frontends, postgres, postgresDir, db } = system;
    const [one, two] = frontends as [Frontend, Frontend];
    const archived = [await castCounted(db, one.url)];
    await runBackup(target, 'backup');
    archived.push(await castCounted(db, one.url), await castCounted(db, two.url));
    await archive();
    // Counted, but its commit is in a segment that is lost with the store.
    const lost = await castCounted(db, one.url);
    two.proxy.refuse();
    const waiting = await castAccepted(two.url);

    await postgres.end('SIGKILL');
    rmSync(postgresDir, { recursive: true });
    expect(await runBackup(target, 'verify')).toMatch(/^1 backups/m);
    expect(await runBackup(target, 'restore')).toContain('Restored to');
    await postgres.startAndWait();
    two.proxy.allow();

    await untilCounted(db, waiting);
    for (const receipt of archived) expect(await isCounted(db, receipt)).toBe(true);
    const { source, seq } = parseJobKey(lost) as { source: string; seq: number };
    const missing = await until('the audit names the missing job', async () => {
      const sources = (await auditSources(db)).filter(({ missingJobs }) => missingJobs > 0);
      return sources.length > 0 && sources;
    });
    expect(missing).toMatchObject([{ source, missingJobs: 1, missing: [seq] }]);
    expect(await auditTallies(db)).toEqual([]);
  });
});
