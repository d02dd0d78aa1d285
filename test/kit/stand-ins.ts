import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from './process.ts';

/**
 * Stand-ins for programs that tests cannot run: the AWS command line (aws-cli.ts), EC2 instance metadata, systemd, disks and
 * host name of a machine (machine-cli.sh) and, in tests without an engine, Docker's command line (docker-cli.ts). They replace
 * the real programs on the PATH, keep their state in files and record their calls. Their responses follow AWS's documentation;
 * such tests show what the scripts do, not what AWS does.
 */
const MACHINE = [
  'blkid',
  'dnf',
  'hostname',
  'hostnamectl',
  'mkfs.xfs',
  'mount',
  'mountpoint',
  'systemctl',
  'xfs_growfs',
];

export interface StandIns {
  /** Environment for scripts that run with the stand-ins. */
  readonly env: Readonly<Record<string, string>>;
  /** Folder of the state: `aws.json`, `docker.json`, `parameters/`, `calls`. */
  readonly state: string;
  /** All calls so far, one line each: program and arguments. */
  calls(): Promise<string[]>;
  read<T>(name: string): Promise<T>;
  write(name: string, value: unknown): Promise<void>;
}

/**
 * Installs the stand-ins in a folder.
 *
 * @param programs to replace besides those of the machine: `aws`, `docker`
 */
export async function placeStandIns(
  folder: string,
  programs: readonly ('aws' | 'docker')[],
): Promise<StandIns> {
  const bin = join(folder, 'bin');
  const state = join(folder, 'state');
  const root = join(folder, 'root');
  for (const path of [bin, join(state, 'parameters'), join(root, 'etc')])
    await mkdir(path, { recursive: true });
  const place = async (name: string, command: string): Promise<void> => {
    await writeFile(join(bin, name), `#!/bin/sh\nexec ${command} "$@"\n`);
    await chmod(join(bin, name), 0o755);
  };
  for (const name of programs) {
    // Compiled once: they start hundreds of times.
    const source = await readFile(join(import.meta.dirname, `${name}-cli.ts`), 'utf8');
    await writeFile(join(bin, `${name}.mjs`), stripTypeScriptTypes(source));
    await place(name, `${process.execPath} ${join(bin, `${name}.mjs`)}`);
    await writeFile(join(state, `${name}.json`), '{}');
  }
  if (programs.includes('docker')) await place('dockerd', 'true');
  for (const name of MACHINE)
    await place(name, `bash ${join(import.meta.dirname, 'machine-cli.sh')} ${name}`);
  await writeFile(join(root, 'etc/fstab'), '');
  await writeFile(join(state, 'calls'), '');
  return {
    env: {
      PATH: `${bin}:${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin`,
      STAND_INS: state,
      TURNOUT_HOST_ROOT: root,
      TURNOUT_ENV: join(folder, 'node.env'),
      TURNOUT_CREDENTIALS: join(root, 'etc/turnout/credentials'),
      TURNOUT_HISTORY: join(root, 'var/lib/turnout/history.json'),
    },
    state,
    calls: async () => (await readFile(join(state, 'calls'), 'utf8')).split('\n').filter(Boolean),
    read: async <T>(name: string) => JSON.parse(await readFile(join(state, name), 'utf8')) as T,
    write: (name, value) => writeFile(join(state, name), JSON.stringify(value)),
  };
}

/**
 * EC2 instance metadata by IMDSv2: requires a session token.
 *
 * @param host address to listen on; the instance must reach it
 */
export async function serveMetadata(
  values: Readonly<Record<string, string>>,
  host = '127.0.0.1',
): Promise<{ url: string; close: () => void }> {
  const server = createServer((request, response) => {
    const path = (request.url ?? '').replace('/latest/', '');
    if (request.method === 'PUT' && path === 'api/token') {
      response.end('the-session');
      return;
    }
    const value = values[path.replace('meta-data/', '')];
    const isKnown = request.headers['x-aws-ec2-metadata-token'] === 'the-session';
    response.writeHead(isKnown ? (value ? 200 : 404) : 401).end(value);
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const address = server.address();
  if (typeof address !== 'object' || !address) throw new Error('no address');
  return { url: `http://${host}:${address.port}`, close: () => server.close() };
}

const RUN_MS_MAX = 50_000;

/** A simulated instance of the stack `turnout`: a copy of the scripts, with stand-ins for AWS, Docker and the machine. */
export interface StandInInstance {
  /** The copy of `aws/` and `stack/swarm/`, and the folder that replaces `/`. */
  readonly project: string;
  readonly root: string;
  readonly standIns: StandIns;
  /** Writes the instance's identity; `more` are further lines of node.env. */
  become(role: string, id: string, address: string, more?: string): Promise<void>;
  /** Runs a script of `aws/` and returns its standard output. Throws with its standard error if it fails. */
  run(script: string, args?: readonly string[], env?: Readonly<Record<string, string>>): Promise<string>;
  /** Runs a script that must fail and returns its standard error. */
  failureOf(script: string, ...args: string[]): Promise<string>;
  /** Replaces a script of `stack/swarm/` by one that records its call and then runs `more`. */
  replace(script: string, more?: string): Promise<void>;
  /** Returns the calls so far that start with this text. */
  callsOf(start: string): Promise<string[]>;
  keep(parameter: string, value: string): Promise<void>;
  kept(parameter: string): Promise<{ type: string; value: string }>;
  remove(): Promise<void>;
}

/** Creates a simulated instance; call `remove` at the end. */
export async function standInInstance(): Promise<StandInInstance> {
  const scratch = await scratchFolder();
  const project = join(scratch.path, 'project');
  for (const folder of ['aws', 'stack/swarm'])
    await cp(join(ROOT, folder), join(project, folder), { recursive: true });
  const standIns = await placeStandIns(scratch.path, ['aws', 'docker']);
  const root = standIns.env['TURNOUT_HOST_ROOT'] ?? '';
  for (const folder of ['dev/disk/by-id', 'etc/systemd/system'])
    await mkdir(join(root, folder), { recursive: true });
  let metadata: Awaited<ReturnType<typeof serveMetadata>> | undefined;
  const parameter = (name: string): string =>
    join('parameters', encodeURIComponent(`/turnout/turnout/${name}`));

  const run: StandInInstance['run'] = async (script, args = [], env = {}) => {
    const { stdout } = await promisify(execFile)('bash', [join(project, 'aws', script), ...args], {
      env: {
        ...standIns.env,
        TURNOUT_METADATA: metadata?.url ?? '',
        TURNOUT_HEARTBEAT_SECONDS: '0.05',
        ...env,
      },
      timeout: RUN_MS_MAX,
    });
    return stdout;
  };
  return {
    project,
    root,
    standIns,
    run,
    become: async (role, id, address, more = '') => {
      metadata?.close();
      metadata = await serveMetadata({
        'instance-id': id,
        'local-ipv4': address,
        'placement/availability-zone': 'us-east-1a',
      });
      const lines = [
        'AWS_DEFAULT_REGION=us-east-1',
        'STACK=turnout',
        'BUCKET=bucket',
        `ROLE=${role}`,
        more,
        '',
      ];
      await writeFile(standIns.env['TURNOUT_ENV'] ?? '', lines.join('\n'));
    },
    failureOf: (script, ...args) =>
      run(script, args).then(
        () => 'it succeeded',
        (error: { stderr: string }) => error.stderr,
      ),
    replace: (script, more = '') =>
      writeFile(
        join(project, 'stack/swarm', script),
        `#!/bin/bash\nprintf '%s\\n' "${script} $*" >>"$STAND_INS/calls"\n${more}\n`,
        { mode: 0o755 },
      ),
    callsOf: async (start) => (await standIns.calls()).filter((call) => call.startsWith(start)),
    keep: (name, value) => standIns.write(parameter(name), { type: 'String', value }),
    kept: (name) => standIns.read(parameter(name)),
    remove: async () => {
      metadata?.close();
      await scratch.remove();
    },
  };
}
