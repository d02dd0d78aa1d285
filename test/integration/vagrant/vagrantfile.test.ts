import { execFile } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findProgram } from '#dev/path.mjs';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';

/** The Vagrantfile, evaluated by Vagrant. No virtual machine starts, because no provider is installed. */
const FOLDER = join(ROOT, 'vagrant');
const EVALUATE = join(ROOT, 'test/kit/vagrant.rb');
const run = promisify(execFile);

interface Machine {
  readonly name: string;
  readonly box: string;
  readonly hostname: string;
  readonly networks: readonly [string, string | null][];
  readonly synced: readonly string[];
  readonly provisioners: readonly { name: string; type: string; run: string; args: string[] | null }[];
  readonly customizations: readonly [string, string][];
}

let scratch: Awaited<ReturnType<typeof scratchFolder>>;

beforeAll(async () => {
  scratch = await scratchFolder();
});

afterAll(() => scratch.remove());

function environment(settings: Readonly<Record<string, string>>): Record<string, string> {
  return {
    PATH: process.env['PATH'] ?? '',
    HOME: scratch.path,
    VAGRANT_HOME: join(scratch.path, 'home'),
    VAGRANT_DOTFILE_PATH: join(scratch.path, 'dot'),
    VAGRANT_CHECKPOINT_DISABLE: '1',
    ...settings,
  };
}

interface Evaluation {
  readonly machines: Machine[];
  readonly primary: string;
  readonly parallel: string;
  readonly prepared: string[];
}

async function evaluate(settings: Readonly<Record<string, string>> = {}): Promise<Evaluation> {
  const { stdout } = await run('ruby', [EVALUATE, FOLDER, 'virtualbox'], { env: environment(settings) });
  return JSON.parse(stdout) as Evaluation;
}

/** Evaluates nodes.rb alone, which takes a tenth of the time of Vagrant. */
async function nodesOf(
  settings: Readonly<Record<string, string>>,
): Promise<{ name: string; address: string }[]> {
  const program = 'puts JSON.generate(Turnout.nodes(ENV).map(&:to_h))';
  const { stdout } = await run('ruby', ['-rjson', '-r', join(FOLDER, 'nodes.rb'), '-e', program], {
    env: environment(settings),
  });
  return JSON.parse(stdout) as { name: string; address: string }[];
}

const addressOf = ({ networks }: Machine) =>
  networks.filter(([kind]) => kind === 'private_network').map(([, ip]) => ip);
const rolesOf = (machines: readonly Machine[]) =>
  machines.map(({ name, provisioners }) => [
    name,
    provisioners.find((one) => one.name === 'node')?.args?.[0],
  ]);

describe.skipIf(!findProgram('vagrant') || !findProgram('ruby'))('the Vagrantfile', () => {
  test('is valid for Vagrant', async () => {
    const { stdout } = await run('vagrant', ['validate', '--ignore-provider'], {
      cwd: FOLDER,
      env: environment({}),
    });
    expect(stdout).toContain('Vagrantfile validated successfully.');
  });

  test('defines the machines of the default system', async () => {
    const { machines, primary, parallel, prepared } = await evaluate();
    expect(machines.map((machine) => [machine.name, addressOf(machine)])).toEqual([
      ['store', ['192.168.33.250']],
      ['interlock', ['192.168.33.12']],
      ['frontend01', ['192.168.33.20']],
      ['frontend02', ['192.168.33.21']],
      ['worker01', ['192.168.33.200']],
      ['manager', ['192.168.33.11']],
    ]);
    expect(primary).toBe('manager');
    // The manager comes last: it needs all other machines.
    expect(parallel).toBe('yes');
    expect(prepared).toEqual(['up', 'provision', 'reload']);
  });

  test('defines the requested number of frontends and workers', async () => {
    const { machines } = await evaluate({ FRONTENDS: '3', WORKERS: '2', SUBNET: '192.168.56' });
    expect(rolesOf(machines)).toEqual([
      ['store', 'store'],
      ['interlock', 'interlock'],
      ['frontend01', 'frontend'],
      ['frontend02', 'frontend'],
      ['frontend03', 'frontend'],
      ['worker01', 'worker'],
      ['worker02', 'worker'],
      ['manager', 'manager'],
    ]);
    const cluster = machines.at(-1)?.provisioners.find(({ name }) => name === 'cluster');
    expect(cluster).toMatchObject({ run: 'always' });
    expect(cluster?.args).toEqual([
      '192.168.56.11',
      'store=192.168.56.250',
      'interlock=192.168.56.12',
      'frontend=192.168.56.20',
      'frontend=192.168.56.21',
      'frontend=192.168.56.22',
      'worker=192.168.56.200',
      'worker=192.168.56.201',
    ]);
  });

  test('gives every machine a unique name and address, up to the limit', async () => {
    const machines = await nodesOf({ FRONTENDS: '180', WORKERS: '50' });
    expect(machines).toHaveLength(180 + 50 + 3);
    expect(new Set(machines.map(({ name }) => name)).size).toBe(machines.length);
    expect(new Set(machines.map(({ address }) => address)).size).toBe(machines.length);
    for (const { address } of machines) expect(Number(address.split('.')[3])).toBeLessThan(255);
  });

  test('provisions all machines alike, without shared folders', async () => {
    const { machines } = await evaluate();
    for (const { name, box, hostname, synced, provisioners, customizations } of machines) {
      expect(box).toBe('bento/debian-12');
      expect(hostname).toBe(name);
      expect(synced).toEqual([]);
      const sizes = Object.fromEntries(customizations);
      expect(Number(sizes['--memory'])).toBeGreaterThanOrEqual(768);
      expect(Number(sizes['--cpus'])).toBeGreaterThanOrEqual(1);
      expect(provisioners.map((one) => one.name)).toEqual(
        name === 'manager' ? ['archive', 'key', 'node', 'cluster'] : ['archive', 'key', 'node'],
      );
    }
    expect((await evaluate({ BOX: 'generic/debian12' })).machines[0]?.box).toBe('generic/debian12');
  });

  test.each([
    ['FRONTENDS', '0', 'FRONTENDS must be a whole number from 1 to 180; it is "0"'],
    ['FRONTENDS', '181', 'FRONTENDS must be a whole number from 1 to 180'],
    ['WORKERS', 'two', 'WORKERS must be a whole number from 1 to 50; it is "two"'],
    ['WORKERS', '-1', 'WORKERS must be a whole number from 1 to 50'],
    ['SUBNET', '192.168.33.0/24', 'SUBNET must be the first three numbers of a network'],
    ['SUBNET', '300.1.1', 'SUBNET must be the first three numbers of a network'],
  ])('rejects %s=%s with a reason', async (name, value, message) => {
    await expect(nodesOf({ [name]: value })).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`${RegExp.escape(message)}.*\\(Turnout::BadSetting\\)`)),
    });
  });

  test('reports a rejected setting in a single line', async () => {
    const failed = await run('vagrant', ['validate', '--ignore-provider'], {
      cwd: FOLDER,
      env: environment({ FRONTENDS: '0' }),
    }).catch((error: { code: number; stderr: string }) => error);
    expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('FRONTENDS must be') });
    expect(failed.stderr.trim().split('\n')).toHaveLength(1);
  });

  test('prepares files readable by their owner only', async () => {
    await evaluate();
    const folder = join(scratch.path, 'dot/turnout');
    const { mode } = await stat(folder);
    expect(mode & 0o77).toBe(0);
    expect(await readdir(folder)).toEqual(['key', 'key.pub', 'turnout.tar.gz']);
    expect(await readFile(join(folder, 'key'), 'utf8')).toBe('');
  });
});
