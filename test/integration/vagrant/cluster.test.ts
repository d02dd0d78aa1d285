import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';
import { placeStandIns, type StandIns } from '#kit/stand-ins.ts';

/**
 * vagrant/cluster.sh with stand-ins for ssh, Docker and the scripts of stack/swarm/: its actions, their order, and the arguments
 * of ssh. `npm run test:swarm` runs the scripts themselves on a real Swarm.
 */
const RUN_MS_MAX = 50_000;
const NODES = ['store=192.168.33.250', 'frontend=192.168.33.20', 'worker=192.168.33.200'];

let scratch: Awaited<ReturnType<typeof scratchFolder>>;
let standIns: StandIns;
let project: string;

const node = (role: string, address: string, state = 'ready', id = `${role}-${state}`) => ({
  ID: id,
  Status: { State: state, Addr: address },
  Spec: { Role: 'worker', Labels: { role } },
  Description: { Hostname: role, Engine: { Labels: {} } },
});
const READY = NODES.map((one) => node(one.split('=')[0] ?? '', one.split('=')[1] ?? ''));

/** Replaces a program by one that records its call and then runs `more`. */
async function replace(path: string, more = ''): Promise<void> {
  const name = path.split('/').at(-1);
  await writeFile(path, `#!/bin/bash\nprintf '%s\\n' "${name} $*" >>"$STAND_INS/calls"\n${more}\n`);
  await chmod(path, 0o755);
}

beforeEach(async () => {
  scratch = await scratchFolder();
  project = join(scratch.path, 'project');
  for (const file of ['cluster.sh', 'settings.env'])
    await cp(join(ROOT, 'vagrant', file), join(project, 'vagrant', file), { recursive: true });
  await cp(join(ROOT, 'stack/swarm/lib.sh'), join(project, 'stack/swarm/lib.sh'), { recursive: true });
  for (const folder of ['dist', 'db']) {
    await mkdir(join(project, folder));
    await writeFile(join(project, folder, 'content'), folder);
  }
  for (const file of ['.dockerignore', 'package.json']) await writeFile(join(project, file), '');
  standIns = await placeStandIns(scratch.path, ['docker']);
  await standIns.write('docker.json', { isActive: true, isManager: true, nodes: READY });
  for (const name of ['init', 'label', 'secrets', 'deploy', 'verify']) {
    await replace(
      join(project, `stack/swarm/${name}.sh`),
      'echo "$TURNOUT_VERSION" >"$STAND_INS/version"; echo "$REDIS_MAXMEMORY" >"$STAND_INS/maxmemory"',
    );
  }
  await replace(join(project, 'stack/swarm/token.sh'), 'echo the-secret-token');
  await replace(join(project, 'stack/swarm/images.sh'), 'case $1 in save) echo the-images >"$2" ;; esac');
  await replace(
    join(scratch.path, 'bin/ssh'),
    `case $* in
      *join.sh*) cat >"$STAND_INS/stdin-of-join" ;;
      *images.sh*) cat >"$STAND_INS/stdin-of-images" ;;
      *docker*image*) cat "$STAND_INS/images-there" 2>/dev/null || true ;;
    esac`,
  );
});

afterEach(() => scratch.remove());

const start = (...args: string[]) =>
  promisify(execFile)('bash', [join(project, 'vagrant/cluster.sh'), ...args], {
    env: { ...standIns.env, SUDO_USER: 'vagrant' },
    timeout: RUN_MS_MAX,
  });

describe('cluster.sh', () => {
  test('joins all machines, deploys, casts a vote and prints the passwords', async () => {
    await start('192.168.33.11', ...NODES);
    const steps = (await standIns.calls())
      .filter((call) => /^(init|token|images|secrets|deploy|verify)\.sh/.test(call))
      .map((call) => call.split(' ').slice(0, 2).join(' ').trim());
    expect(steps).toEqual([
      'init.sh --advertise',
      ...Array(3).fill('token.sh worker'),
      'images.sh build',
      'images.sh save',
      'secrets.sh',
      'deploy.sh',
      'verify.sh',
      'secrets.sh --show',
    ]);
  });

  test('pipes the token through standard input', async () => {
    await start('192.168.33.11', ...NODES);
    expect(await readFile(join(standIns.state, 'stdin-of-join'), 'utf8')).toBe('the-secret-token\n');
    expect((await standIns.calls()).join('\n')).not.toContain('the-secret-token');
    const joins = (await standIns.calls()).filter((call) => call.includes('join.sh'));
    expect(joins.map((call) => call.slice(call.indexOf('vagrant@')).replaceAll("'", ''))).toEqual(
      NODES.map((one) => {
        const address = one.split('=')[1];
        return `vagrant@${address} sudo /opt/turnout/stack/swarm/join.sh --manager 192.168.33.11 --advertise ${address}`;
      }),
    );
  });

  test('copies the images to the nodes once', async () => {
    await start('192.168.33.11', ...NODES);
    const loads = async () => (await standIns.calls()).filter((call) => call.includes("'load'"));
    expect(await loads()).toHaveLength(3);
    expect(await readFile(join(standIns.state, 'stdin-of-images'), 'utf8')).toBe('the-images\n');
    await writeFile(join(standIns.state, 'images-there'), 'sha256:same\n');
    await start('192.168.33.11', ...NODES);
    expect(await loads()).toHaveLength(3);
  });

  test('derives the version from the content', async () => {
    const version = async () => {
      await start('192.168.33.11', ...NODES);
      return readFile(join(standIns.state, 'version'), 'utf8');
    };
    const first = await version();
    expect(first).toMatch(/^[0-9a-f]{12}\n$/);
    expect(await version()).toBe(first);
    await writeFile(join(project, 'dist/content'), 'other');
    expect(await version()).not.toBe(first);
  });

  test('deploys with the settings for these machines', async () => {
    await start('192.168.33.11', ...NODES);
    expect(await readFile(join(standIns.state, 'maxmemory'), 'utf8')).toBe('160mb\n');
  });

  test('removes only the previous node of a recreated machine', async () => {
    const down = [
      node('frontend', '192.168.33.20', 'down'),
      node('frontend', '192.168.33.21', 'down', 'resting'),
    ];
    await standIns.write('docker.json', { isActive: true, isManager: true, nodes: [...READY, ...down] });
    await start('192.168.33.11', ...NODES);
    const { nodes } = await standIns.read<{ nodes: { ID: string }[] }>('docker.json');
    expect(nodes.map(({ ID }) => ID)).toEqual(['store-ready', 'frontend-ready', 'worker-ready', 'resting']);
  });
});
