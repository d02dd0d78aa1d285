import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findProgram } from '#dev/path.mjs';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';

/**
 * install-docker.sh --firewall in a network namespace, with real packets from two others. A redirection to another port stands
 * for the address translation by which Docker publishes a port.
 */
const RUN_MS_MAX = 30_000;
const PROBE_MS = 300;
const [NODE, PEER, STRANGER] = ['node', 'peer', 'stranger'].map((name) => `firewall-${name}-${process.pid}`);
const OPEN_PORTS = ['tcp 80'];
const CLOSED_PORTS = ['tcp 2377', 'tcp 7946', 'tcp 8404', 'udp 4789', 'udp 7946'];
const ALL = [...OPEN_PORTS, ...CLOSED_PORTS].toSorted();

/** Listens on all ports and prints a line; answers each datagram. */
const SERVE = `
  const listens = [80, 2377, 7946, 18404].map((port) => new Promise((done) =>
    require('node:net').createServer((socket) => socket.end()).listen(port, '::', done)));
  for (const port of [4789, 7946]) listens.push(new Promise((done) => {
    const socket = require('node:dgram').createSocket('udp6');
    socket.on('message', (_, { port, address }) => socket.send('answer', port, address)).bind(port, done);
  }));
  Promise.all(listens).then(() => console.log('listening'));
`;

/** Prints the ports of an address that respond. */
const PROBE = `
  const [host, ...ports] = process.argv.slice(1);
  const tcp = (port) => new Promise((done) => {
    const socket = require('node:net').connect({ host, port, timeout: ${PROBE_MS} });
    socket.on('connect', () => { socket.destroy(); done(true); }).on('error', () => done(false))
      .on('timeout', () => { socket.destroy(); done(false); });
  });
  const udp = (port) => new Promise((done) => {
    const socket = require('node:dgram').createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const end = (found) => { socket.close(); done(found); };
    const timer = setTimeout(() => end(false), ${PROBE_MS});
    socket.on('message', () => { clearTimeout(timer); end(true); }).on('error', () => {}).send('question', port, host);
  });
  Promise.all(ports.map(async (name) => {
    const [protocol, port] = name.split(' ');
    return await (protocol === 'tcp' ? tcp : udp)(Number(port)) ? [name] : [];
  })).then((found) => console.log(JSON.stringify(found.flat().sort())));
`;

const run = promisify(execFile);
const inside = async (namespace: string | undefined, command: string, ...args: string[]): Promise<string> => {
  const call = ['netns', 'exec', namespace ?? '', command, ...args];
  return (await run('ip', call, { timeout: RUN_MS_MAX, env: environment })).stdout;
};

/** Returns the ports of the node that respond to a host. */
const probe = async (from: string | undefined, address: string): Promise<string[]> =>
  JSON.parse(await inside(from, process.execPath, '-e', PROBE, address, ...ALL));

let scratch: Awaited<ReturnType<typeof scratchFolder>>;
let server: ChildProcess;
let environment: NodeJS.ProcessEnv;

/** Connects a host to the node by a link of its own. */
async function connect(namespace: string | undefined, link: string, network: number): Promise<void> {
  await run('ip', ['netns', 'add', namespace ?? '']);
  const ends = [
    `${link}0`,
    'netns',
    NODE ?? '',
    'type',
    'veth',
    'peer',
    `${link}1`,
    'netns',
    namespace ?? '',
  ];
  await run('ip', ['link', 'add', ...ends]);
  for (const [at, end, last] of [
    [NODE, `${link}0`, 1],
    [namespace, `${link}1`, 2],
  ] as const) {
    await inside(at, 'ip', 'addr', 'add', `10.9.${network}.${last}/24`, 'dev', end);
    await inside(at, 'ip', 'addr', 'add', `fd00:9:${network}::${last}/64`, 'dev', end, 'nodad');
    await inside(at, 'ip', 'link', 'set', end, 'up');
  }
}

const install = (...args: string[]): Promise<string> =>
  inside(NODE, 'bash', join(ROOT, 'stack/swarm/install-docker.sh'), ...args);

const PROGRAMS = ['ip', 'iptables', 'nft'];

describe.skipIf(process.getuid?.() !== 0 || !PROGRAMS.every(findProgram))('the firewall of a node', () => {
  beforeEach(async () => {
    scratch = await scratchFolder();
    const bin = join(scratch.path, 'bin');
    await mkdir(bin);
    for (const name of ['docker', 'dockerd', 'systemctl'])
      await writeFile(join(bin, name), '#!/bin/sh\n', { mode: 0o755 });
    environment = {
      PATH: `${bin}:${process.env['PATH']}:/usr/sbin:/sbin`,
      FIREWALL_CONFIG: join(scratch.path, 'firewall.nft'),
      UNITS: scratch.path,
    };
    await run('ip', ['netns', 'add', NODE ?? '']);
    await connect(PEER, 'peer', 1);
    await connect(STRANGER, 'stranger', 2);
    await inside(NODE, 'ip', 'link', 'set', 'lo', 'up');
    const published = ['PREROUTING', '-p', 'tcp', '--dport', '8404', '-j', 'REDIRECT', '--to-ports', '18404'];
    await inside(NODE, 'iptables', '-t', 'nat', '-A', ...published);
    await inside(NODE, 'ip6tables', '-t', 'nat', '-A', ...published);
    server = spawn('ip', ['netns', 'exec', NODE ?? '', process.execPath, '-e', SERVE], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(server.stdout as NodeJS.ReadableStream, 'data');
    // The addresses of both links are in use.
    await until('everything is open', async () => {
      const found = await Promise.all([probe(PEER, '10.9.1.1'), probe(STRANGER, 'fd00:9:2::1')]);
      return found.every((ports) => ports.length === ALL.length);
    });
  });

  afterEach(async () => {
    server.kill();
    for (const name of [NODE, PEER, STRANGER]) await run('ip', ['netns', 'delete', name ?? '']);
    await scratch.remove();
  });

  test('closes the ports of Swarm and the statistics to strangers, and to them only', async () => {
    expect(await probe(STRANGER, '10.9.2.1')).toEqual(ALL);
    await install('--firewall', '10.9.1.0/24,192.0.2.7');
    expect(await probe(PEER, '10.9.1.1')).toEqual(ALL);
    expect(await probe(STRANGER, '10.9.2.1')).toEqual(OPEN_PORTS);
    expect(await probe(STRANGER, 'fd00:9:2::1')).toEqual(OPEN_PORTS);
    // No peer has an address of version 6.
    expect(await probe(PEER, 'fd00:9:1::1')).toEqual(OPEN_PORTS);
    expect(await probe(NODE, '127.0.0.1')).toEqual(ALL.filter((name) => name !== 'tcp 8404'));
  });

  test('replaces the peers on a second run, and changes nothing without the option', async () => {
    await install('--firewall', '10.9.1.0/24');
    await install('--firewall', '10.9.2.2,fd00:9:2::/64');
    expect(await probe(PEER, '10.9.1.1')).toEqual(OPEN_PORTS);
    expect(await probe(STRANGER, '10.9.2.1')).toEqual(ALL);
    expect(await probe(STRANGER, 'fd00:9:2::1')).toEqual(ALL);
    await install();
    expect(await probe(PEER, '10.9.1.1')).toEqual(OPEN_PORTS);
  });

  test.each(['10.9.1.0/24; accept', 'any', '10.9.1.0/24,10.9.1.7/99'])(
    'refuses the peers "%s" without a change',
    async (peers) => {
      await install('--firewall', '10.9.1.0/24');
      await expect(install('--firewall', peers)).rejects.toThrow();
      expect(await probe(STRANGER, '10.9.2.1')).toEqual(OPEN_PORTS);
    },
  );
});
