import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';

/**
 * install-docker.sh --role and verify.sh --node with a folder in place of the machine's files and /proc, because the settings
 * are of the whole kernel. That this kernel has each setting is tested against the real /proc.
 */
const RUN_MS_MAX = 30_000;
const GIB = 2 ** 30;
/** Values of Linux 6.1 with 1 GiB. */
const DEFAULTS = {
  'net.ipv4.neigh.default.gc_thresh1': '128',
  'net.ipv4.neigh.default.gc_thresh2': '512',
  'net.ipv4.neigh.default.gc_thresh3': '1024',
  'net.netfilter.nf_conntrack_max': '65536',
  'net.netfilter.nf_conntrack_buckets': '65536',
  'vm.overcommit_memory': '0',
};
type Name = keyof typeof DEFAULTS;
const NEIGHBOURS = {
  'net.ipv4.neigh.default.gc_thresh1': '4096',
  'net.ipv4.neigh.default.gc_thresh2': '8192',
  'net.ipv4.neigh.default.gc_thresh3': '16384',
};

const run = promisify(execFile);
let scratch: Awaited<ReturnType<typeof scratchFolder>>;
let role: string;

const fileOf = (name: string): string => join('proc/sys', name.replaceAll('.', '/'));
const write = async (path: string, text: string, mode = 0o644): Promise<void> => {
  await mkdir(dirname(join(scratch.path, path)), { recursive: true });
  await writeFile(join(scratch.path, path), text, { mode });
};
const read = async (path: string): Promise<string> =>
  (await readFile(join(scratch.path, path), 'utf8')).trim();

/** Returns the settings that differ from the kernel's defaults. */
async function changed(): Promise<Record<string, string>> {
  const all = await Promise.all(
    Object.keys(DEFAULTS).map(async (name) => [name, await read(fileOf(name))] as const),
  );
  return Object.fromEntries(all.filter(([name, value]) => value !== DEFAULTS[name as Name]));
}

async function script(name: string, ...args: string[]): Promise<string> {
  const { stdout } = await run('bash', [join(ROOT, 'stack/swarm', name), ...args], {
    env: {
      PATH: `${join(scratch.path, 'bin')}:${process.env['PATH']}`,
      TURNOUT_HOST_ROOT: scratch.path,
      DAEMON_CONFIG: join(scratch.path, 'etc/docker/daemon.json'),
    },
    timeout: RUN_MS_MAX,
  });
  return stdout;
}

async function install(as: string): Promise<string> {
  role = as;
  await write('bin/docker', `#!/bin/sh\n[ "$1" != info ] || echo role=${role}\n`, 0o755);
  return script('install-docker.sh', '--role', role);
}

const remember = (gib: number): Promise<void> =>
  write('proc/meminfo', `MemTotal:       ${(gib * GIB) / 1024} kB\nMemFree: 1 kB\n`);

beforeEach(async () => {
  scratch = await scratchFolder();
  for (const [name, value] of Object.entries(DEFAULTS)) await write(fileOf(name), `${value}\n`);
  for (const name of ['dockerd', 'systemctl', 'modprobe']) await write(`bin/${name}`, '#!/bin/sh\n', 0o755);
  await remember(4);
});

afterEach(() => scratch.remove());

describe('the kernel of a node', () => {
  test('gets the settings of its role, now and at each boot', async () => {
    await install('interlock');
    const settings = {
      ...NEIGHBOURS,
      // 4 GiB / 16 / 260 bytes.
      'net.netfilter.nf_conntrack_max': '1032444',
      'net.netfilter.nf_conntrack_buckets': '516222',
    };
    expect(await changed()).toEqual(settings);
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
    expect((await read('etc/sysctl.d/90-turnout.conf')).split('\n')).toEqual(lines);
    expect(await read('etc/modules-load.d/turnout.conf')).toBe('nf_conntrack');
  });

  test.each([
    ['frontend', { ...NEIGHBOURS, 'vm.overcommit_memory': '1' }],
    ['worker', NEIGHBOURS],
    ['store', NEIGHBOURS],
    ['manager', NEIGHBOURS],
  ])('gets no setting of another role: %s', async (name, settings) => {
    await install(name);
    expect(await changed()).toEqual(settings);
    expect(existsSync(join(scratch.path, 'etc/modules-load.d/turnout.conf'))).toBe(false);
  });

  test.each([
    [1, '258111'],
    [64, '2097152'],
  ])('tracks connections within its memory of %i GiB', async (gib, max) => {
    await remember(gib);
    await install('interlock');
    expect(await read(fileOf('net.netfilter.nf_conntrack_max'))).toBe(max);
  });

  test('keeps higher settings of its operator', async () => {
    await write(fileOf('net.netfilter.nf_conntrack_max'), '5000000\n');
    await install('interlock');
    expect(await read(fileOf('net.netfilter.nf_conntrack_max'))).toBe('5000000');
    expect(await read('etc/sysctl.d/90-turnout.conf')).toContain('nf_conntrack_max = 5000000');
  });

  test('is shown by verify.sh --node, which fails on a setting that is too low', async () => {
    await install('interlock');
    expect(await script('verify.sh', '--node')).toContain('net.netfilter.nf_conntrack_max = 1032444');
    await write(fileOf('net.netfilter.nf_conntrack_max'), '65536\n');
    await expect(script('verify.sh', '--node')).rejects.toMatchObject({
      stdout: expect.stringContaining('nf_conntrack_max = 65536, wanted: at least 1032444'),
    });
  });

  test('may lack a setting: the engine is installed, and verify.sh --node fails', async () => {
    await rm(join(scratch.path, 'proc/sys/net/netfilter'), { recursive: true });
    const said = await install('interlock');
    expect(said).toContain('nf_conntrack_max = missing');
    expect(said).toContain('Some settings cannot be made on this machine.');
    await expect(script('verify.sh', '--node')).rejects.toThrow();
  });

  test.skipIf(!existsSync('/proc/sys/net/netfilter'))('of this machine has each of the settings', () => {
    for (const name of Object.keys(DEFAULTS)) expect(existsSync(join('/', fileOf(name))), name).toBe(true);
  });
});
