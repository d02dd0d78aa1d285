import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';

const SOURCE = join(ROOT, 'stack/dev');

/** A checkout that contains only the bootstrap, and a PATH with stand-ins for `npm` and the Redis server. */
let folder: Awaited<ReturnType<typeof scratchFolder>>;
let started: ChildProcess[];
const at = (...parts: string[]) => join(folder.path, ...parts);
const npmCalls = () => readFileSync(at('npm-calls'), 'utf8').trim().split('\n');

/** The stand-in for `npm ci`. */
const install = () => [
  `echo "$@" >> ${at('npm-calls')}`,
  `rm -rf ${at('node_modules')}`,
  `mkdir -p ${at('node_modules/.bin')}`,
  `ln -s ${process.execPath} ${at('node_modules/.bin/node')}`,
];

beforeEach(async () => {
  folder = await scratchFolder();
  started = [];
  mkdirSync(at('stack/dev'), { recursive: true });
  mkdirSync(at('bin'));
  for (const file of globSync('*.mjs', { cwd: SOURCE })) cpSync(join(SOURCE, file), at('stack/dev', file));
  writeFileSync(at('package-lock.json'), '{"packages":{}}');
  writeFileSync(at('npm-calls'), '');
  program('npm', install());
  program('redis-server', []);
  for (const tool of ['sh', 'sleep', 'rm', 'mkdir', 'ln']) symlinkSync(`/bin/${tool}`, at('bin', tool));
});
afterEach(async () => {
  for (const child of started) child.kill('SIGKILL');
  await folder.remove();
});

function program(name: string, lines: readonly string[]): void {
  writeFileSync(at('bin', name), ['#!/bin/sh', ...lines, ''].join('\n'));
  chmodSync(at('bin', name), 0o755);
}

function script(text: string): string {
  writeFileSync(at('script.mjs'), text);
  return at('script.mjs');
}

function start(...args: string[]) {
  const child = spawn(process.execPath, [at('stack/dev/bootstrap.mjs'), ...args], {
    env: { PATH: at('bin'), TMPDIR: folder.path },
    cwd: folder.path,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  started.push(child);
  const texts = { out: '', errors: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    texts.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    texts.errors += text;
  });
  const ended = once(child, 'close').then(([code]) => ({ code: code as number, ...texts }));
  return { child, texts, ended };
}

test('installs the packages, runs the script with its arguments, and returns its exit code', async () => {
  const path = script('console.log(process.argv.slice(2).join()); process.exit(7)');
  const { code, out } = await start(path, '--port', '1').ended;
  expect(code).toBe(7);
  expect(out).toMatch(/^Installing packages … done \(\d+ s\)\n--port,1\n$/);
  expect(npmCalls()).toEqual(['ci --include=dev']);
  expect(existsSync(at('.bootstrap.lock'))).toBe(false);
});

test('installs again only after a change of the lock file', async () => {
  const path = script('');
  for (const lock of ['{"packages":{}}', '{"packages":{}}', '{"packages":{ }}']) {
    writeFileSync(at('package-lock.json'), lock);
    expect((await start(path).ended).code).toBe(0);
  }
  expect(npmCalls()).toHaveLength(2);
});

test('accepts packages that were installed by hand', async () => {
  const packages = { '': {}, 'node_modules/a': { version: '1.0.0' }, 'node_modules/b': { optional: true } };
  mkdirSync(at('node_modules/.bin'), { recursive: true });
  symlinkSync(process.execPath, at('node_modules/.bin/node'));
  writeFileSync(at('node_modules/.package-lock.json'), JSON.stringify({ packages }));
  writeFileSync(at('package-lock.json'), JSON.stringify({ packages }));
  expect((await start(script('')).ended).out).toBe('');

  packages['node_modules/a'].version = '1.0.1';
  writeFileSync(at('package-lock.json'), JSON.stringify({ packages }));
  expect((await start(script('')).ended).out).toContain('Installing packages');
});

test('installs once when several bootstraps start concurrently', async () => {
  // The first installation lasts until the other two wait for it.
  program('npm', [`until [ -e ${at('go')} ]; do sleep 0.01; done`, ...install()]);
  const path = script('console.log("ran")');
  const runs = [1, 2, 3].map(() => start(path));
  await until('two bootstraps wait', () => {
    return runs.filter(({ texts }) => texts.out.startsWith('Waiting for another installation')).length === 2;
  });
  writeFileSync(at('go'), '');
  const ends = await Promise.all(runs.map(({ ended }) => ended));
  expect(ends.map(({ code }) => code)).toEqual([0, 0, 0]);
  expect(ends.every(({ out }) => out.endsWith('ran\n'))).toBe(true);
  expect(npmCalls()).toHaveLength(1);
});

test('shows the output of npm when it fails', async () => {
  program('npm', ['echo the registry is unreachable', 'exit 3']);
  const end = await start(script('')).ended;
  expect(end).toMatchObject({ code: 1, errors: 'the registry is unreachable\nnpm ci failed (exit 3)\n' });
  expect(end.out).toBe('Installing packages … failed\n');
});

test('says what to install when there is no Redis and no apt-get', async () => {
  program('redis-server', []);
  chmodSync(at('bin/redis-server'), 0o644);
  const { code, errors } = await start(script('')).ended;
  expect(code).toBe(1);
  expect(errors).toBe(
    'neither redis-server nor valkey-server is on the PATH (Debian or Ubuntu: apt-get install redis-server; macOS: brew install redis)\n',
  );
});

test('builds without a Redis', async () => {
  chmodSync(at('bin/redis-server'), 0o644);
  mkdirSync(at('handlers'));
  writeFileSync(at('handlers/build.ts'), 'console.log("built")');
  expect(await start('handlers/build.ts').ended).toMatchObject({ code: 0, errors: '' });
});

test('accepts Valkey instead of Redis', async () => {
  chmodSync(at('bin/redis-server'), 0o644);
  program('valkey-server', []);
  expect((await start(script('')).ended).code).toBe(0);
});

const PRINTS_SIGNALS = `
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => { console.log(signal); process.exit(5); });
  console.log('up');
  setInterval(() => {}, 1000);
`;

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('forwards %s and waits for the exit', async (signal) => {
  const { child, texts, ended } = start(script(PRINTS_SIGNALS));
  await until('the script is up', () => texts.out.includes('up'));
  child.kill(signal);
  const { code, out } = await ended;
  expect(code).toBe(5);
  expect(out.endsWith(`up\n${signal}\n`)).toBe(true);
});

test('returns 128 plus the signal number when a signal kills the script', async () => {
  expect((await start(script('process.kill(process.pid, "SIGKILL")')).ended).code).toBe(137);
});

test('a signal stops an installation and leaves no lock', async () => {
  program('npm', [`echo called >> ${at('npm-calls')}`, 'exec sleep 60']);
  const { child, ended } = start(script(''));
  await until('npm runs', () => npmCalls().includes('called'));
  child.kill('SIGTERM');
  expect((await ended).code).toBe(143);
  expect(existsSync(at('.bootstrap.lock'))).toBe(false);
});

test('stops the script when npm is killed', async () => {
  const path = script(`
    import { writeFileSync } from 'node:fs';
    process.on('SIGTERM', () => { writeFileSync('${at('ended')}', ''); process.exit(0); });
    writeFileSync('${at('up')}', '');
    setInterval(() => {}, 1000);
  `);
  const bootstrap = JSON.stringify([at('stack/dev/bootstrap.mjs'), path]);
  const npm = spawn(
    process.execPath,
    [
      '-e',
      `require('node:child_process').spawn(process.execPath, ${bootstrap}); setInterval(() => {}, 1000)`,
    ],
    { env: { PATH: at('bin'), TMPDIR: folder.path, npm_lifecycle_event: 'start' }, stdio: 'ignore' },
  );
  started.push(npm);
  await until('the script is up', () => existsSync(at('up')));
  npm.kill('SIGKILL');
  await until('the script received SIGTERM', () => existsSync(at('ended')));
});
