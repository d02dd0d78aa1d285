import { execFile } from 'node:child_process';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';

const RUN_MS_MAX = 20_000;

/** Stands in for Docker's command line: logs every command. The file `running` holds the container of PostgreSQL. */
const DOCKER = `#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$FAKE/log"
case "$*" in
  'version '*) echo 1 ;;
  info*ControlAvailable*) echo true ;;
  'ps --quiet '*) cat "$FAKE/running" ;;
  'ps --all '*) echo turnout-postgres:1 ;;
  'node inspect nowhere') exit 1 ;;
  'service inspect '*) echo turnout-redis:1 ;;
esac
`;

let folder: Awaited<ReturnType<typeof scratchFolder>>;

beforeEach(async () => {
  folder = await scratchFolder();
  await writeFile(join(folder.path, 'docker'), DOCKER);
  await chmod(join(folder.path, 'docker'), 0o755);
  await writeFile(join(folder.path, 'running'), '');
});
afterEach(() => folder.remove());

/** Runs a script; returns its output and Docker's commands that change something. */
async function run(script: string, ...args: string[]) {
  await writeFile(join(folder.path, 'log'), '');
  const env = {
    PATH: `${folder.path}:/usr/local/bin:/usr/bin:/bin`,
    FAKE: folder.path,
    BACKUP_FOLDER: '/srv/backup',
  };
  const said = await promisify(execFile)('bash', [join(ROOT, 'stack/swarm', script), ...args], {
    env,
    timeout: RUN_MS_MAX,
  }).then(
    ({ stdout }) => stdout,
    ({ stderr }: { stderr: string }) => stderr,
  );
  const log = (await readFile(join(folder.path, 'log'), 'utf8')).split('\n');
  return { said, commands: log.filter((line) => /^(exec|run|service (create|rm)) /.test(line)) };
}

describe('backup.sh', () => {
  test('backs up in the container of PostgreSQL', async () => {
    await writeFile(join(folder.path, 'running'), 'abc\n');
    const { commands } = await run('backup.sh', 'now');
    expect(commands).toEqual(['exec abc bash /usr/local/lib/turnout/postgres-backup.sh backup']);
  });

  test('verifies and drills in a container that has the backups only', async () => {
    for (const args of [['verify'], ['drill', '--to', '2027-02-07T23:30:00Z']]) {
      const { commands } = await run('backup.sh', ...args);
      expect(commands).toHaveLength(1);
      expect(commands[0]).toContain('--volume /srv/backup:/backup');
      expect(commands[0]).not.toContain('postgres-data');
      expect(commands[0]).toMatch(
        new RegExp(`turnout-postgres:1 \\S+/postgres-backup.sh ${args.join(' ')}$`),
      );
    }
  });

  test('restores onto the data only while PostgreSQL is stopped', async () => {
    const { commands } = await run('backup.sh', 'restore');
    expect(commands[0]).toContain('--volume turnout_postgres-data:/var/lib/postgresql');
    await writeFile(join(folder.path, 'running'), 'abc\n');
    const refused = await run('backup.sh', 'restore');
    expect(refused.said).toContain('docker service scale turnout_postgres=0');
    expect(refused.commands).toEqual([]);
  });

  test('prints its usage for anything else', async () => {
    for (const args of [[], ['later'], ['now', 'x'], ['restore', '--until', 'x']]) {
      const { said, commands } = await run('backup.sh', ...args);
      expect(said).toContain('backup.sh now: ');
      expect(commands).toEqual([]);
    }
  });
});

describe('rescue.sh', () => {
  test('starts a Redis where workers find it, and removes it', async () => {
    const { commands } = await run('rescue.sh', 'start', '/srv/rescue', '--node', 'spare');
    expect(commands).toHaveLength(1);
    for (const part of [
      'alias=redis',
      'source=/srv/rescue,target=/data',
      'node.hostname==spare',
      'turnout-redis:1',
    ]) {
      expect(commands[0]).toContain(part);
    }
    expect((await run('rescue.sh', 'stop')).commands).toEqual(['service rm turnout_redis-rescue']);
  });

  test('refuses an unknown node and a relative folder', async () => {
    expect((await run('rescue.sh', 'start', '/srv/rescue', '--node', 'nowhere')).commands).toEqual([]);
    expect((await run('rescue.sh', 'start', 'rescue', '--node', 'spare')).commands).toEqual([]);
  });
});
