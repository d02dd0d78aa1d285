import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';
import { readConfig, settings } from '#runtime/config.ts';
import { discoverNodes } from '#runtime/discovery.ts';
import { parseRedisAddress } from '#runtime/redis.ts';
import { renderRedisAcl } from '#runtime/redis-acl.ts';
import { Secret } from '#runtime/secret.ts';

const SCRIPT = join(ROOT, 'stack/swarm/secrets.sh');

/**
 * Stands in for Docker's command line: stores every secret as a file and logs every command. `npm run test:swarm` runs the
 * script on a real Swarm.
 */
const DOCKER = `#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$FAKE/log"
case "$1 $2" in
  'version --format') echo 1 ;;
  'info --format') echo true ;;
  'secret inspect') test -e "$FAKE/secret.$3" ;;
  'secret create') cat >"$FAKE/secret.$3" ;;
esac
`;

describe('secrets.sh', () => {
  let folder: Awaited<ReturnType<typeof scratchFolder>>;
  let credentials: string;
  const run = (...args: string[]): string =>
    execFileSync('bash', [SCRIPT, ...args], {
      encoding: 'utf8',
      env: {
        ...process.env,
        PATH: `${folder.path}:${process.env['PATH']}`,
        FAKE: folder.path,
        TURNOUT_CREDENTIALS: credentials,
      },
    });
  const secret = (name: string): string => readFileSync(join(folder.path, `secret.turnout_${name}`), 'utf8');
  const password = (name: string): string =>
    new RegExp(`^${name}=(.*)$`, 'm').exec(readFileSync(credentials, 'utf8'))?.[1] ?? '';
  const files = (): Record<string, string> =>
    Object.fromEntries(
      readdirSync(folder.path)
        .filter((name) => name.startsWith('secret.'))
        .map((name) => [name, readFileSync(join(folder.path, name), 'utf8')]),
    );
  let output: string;

  beforeAll(async () => {
    folder = await scratchFolder();
    credentials = join(folder.path, 'etc', 'credentials');
    writeFileSync(join(folder.path, 'docker'), DOCKER);
    chmodSync(join(folder.path, 'docker'), 0o755);
    output = run();
  });
  afterAll(() => folder.remove());

  test('creates exactly the secrets of the stack files', () => {
    const stack = ['turnout.yml', 'observability.yml']
      .map((name) => readFileSync(join(ROOT, 'stack', name), 'utf8'))
      .join('');
    const named = [...stack.matchAll(/^ {2}(\w+):\s+\{ external: true/gm)].map(([, name]) => name).toSorted();
    expect(named.length).toBeGreaterThan(5);
    expect(
      Object.keys(files())
        .map((name) => name.slice('secret.turnout_'.length))
        .toSorted(),
    ).toEqual(named);
  });

  test('renders the rules of stack/redis.acl', () => {
    const template = readFileSync(join(ROOT, 'stack/redis.acl'), 'utf8');
    const of = (user: string) => new Secret(password(`redis_${user}`));
    const passwords = { vote: of('vote'), worker: of('worker'), dashboard: of('dashboard') };
    expect(secret('redis_acl')).toBe(renderRedisAcl(template, passwords));
  });

  test('creates values that the processes accept', async () => {
    const environment = {
      REDIS_URL: secret('vote_redis_url'),
      VOTER_KEY: secret('voter_key').trim(),
      QUEUE_NODES: secret('worker_queue_nodes'),
      DATABASE_URL: secret('results_database_url'),
      DASHBOARD_USERS: secret('dashboard_users'),
    };
    const { redisUrl, voterKeys, queueNodes, databaseUrl, dashboardUsers } = settings;
    const config = readConfig({ redisUrl, voterKeys, queueNodes, databaseUrl, dashboardUsers }, environment);
    expect(parseRedisAddress(config.redisUrl.reveal()).options).toMatchObject({
      path: '/run/redis/redis.sock',
      username: 'vote',
      password: password('redis_vote'),
    });
    expect(() => discoverNodes(config.queueNodes)).not.toThrow();
    expect(new URL(config.databaseUrl.reveal()).password).toBe(password('results'));
    for (const [name, mayChange] of [
      ['operator', true],
      ['viewer', false],
    ] as const) {
      const user = config.dashboardUsers.get(name);
      expect(user?.mayChange).toBe(mayChange);
      expect(user?.isPassword(password(name))).toBe(true);
    }
    expect(secret('postgres_roles')).toContain(
      `alter role turnout_results password '${password('results')}';`,
    );
  });

  test('exposes no password in output, arguments or file permissions', () => {
    const log = readFileSync(join(folder.path, 'log'), 'utf8');
    const passwords = readFileSync(credentials, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split('=')[1] ?? '');
    expect(passwords.length).toBeGreaterThan(5);
    expect(new Set(passwords).size).toBe(passwords.length);
    for (const each of passwords) {
      expect(each.length).toBe(48);
      expect(log + output).not.toContain(each);
    }
    expect(statSync(credentials).mode & 0o077).toBe(0);
  });

  test('changes nothing on a second run, and completes an interrupted one', () => {
    const before = files();
    expect(run()).not.toContain('Created');
    expect(files()).toEqual(before);
    const lost = join(folder.path, 'secret.turnout_redis_acl');
    const content = readFileSync(lost, 'utf8');
    execFileSync('rm', [lost]);
    expect(run()).toContain('Created the secret turnout_redis_acl');
    expect(existsSync(lost) && readFileSync(lost, 'utf8')).toBe(content);
  });

  test('prints the logins', () => {
    expect(run('--show')).toContain(`dashboard: operator ${password('operator')}`);
    expect(run('--show')).toContain(`dashboard, to look only: viewer ${password('viewer')}`);
  });
});
