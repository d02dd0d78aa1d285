// Makes a fresh checkout able to run: packages, the pinned Node, a Redis. Then runs a script with that Node.
//
//   node stack/dev/bootstrap.mjs <script.ts> [args…]
//
// It runs on whatever Node is there (20 or later) with nothing installed, so it is plain JavaScript without packages.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { constants as osConstants, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { takeLock } from './lock.mjs';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const MODULES = join(CHECKOUT, 'node_modules');
const NODE = join(MODULES, '.bin', 'node');
const STAMP = join(MODULES, '.turnout-installed');
/** Beside node_modules, not in it: `npm ci` empties that folder. */
const LOCK = join(CHECKOUT, '.bootstrap.lock');
const LOCK_POLL_MS = 200;
const PARENT_POLL_MS = 500;
/** A slow network may take minutes to install; nobody should wait for a hung one for ever. */
const LOCK_WAIT_MS_MAX = 15 * 60_000;
/** Whoever only builds needs none: a laptop that deploys to machines elsewhere. */
const WITHOUT_REDIS = new Set(['handlers/build.ts', 'test/check.ts']);
const SERVERS = ['redis-server', 'valkey-server'];
const HINT = 'Debian or Ubuntu: apt-get install redis-server; macOS: brew install redis';
/** Debian asks this script before it starts a service; 101 means "do not". */
const POLICY = '/usr/sbin/policy-rc.d';

/** An end that is no surprise: its message is all that the user needs to see. */
class BootstrapError extends Error {}

/** The child that gets the signals which only we received, and the first signal that we received. */
let child;
let received;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    received ??= signal;
    if (!child) process.exit(exitCodeOf(null, signal));
    // Ctrl-C on a terminal reaches the child without us, and `npm` tells us a second time: passing it on would make
    // one key look like two. Everything else was meant for us alone.
    if (!(signal === 'SIGINT' && process.stdin.isTTY)) child.kill(signal);
  });
}

// npm that is told to end does so without a word to us. What it started must not outlive it.
const parent = process.ppid;
if (process.env.npm_lifecycle_event) {
  setInterval(() => {
    if (process.ppid === parent || received) return;
    received = 'SIGTERM';
    if (!child) process.exit(exitCodeOf(null, received));
    child.kill(received);
  }, PARENT_POLL_MS).unref();
}

const [script, ...args] = process.argv.slice(2);
let needsRedis = true;
try {
  if (!script) throw new BootstrapError('usage: node stack/dev/bootstrap.mjs <script.ts> [args…]');
  needsRedis = !WITHOUT_REDIS.has(script);
  if (needsRedis) requireRedisOrApt();
  if (!isInstalled() || (needsRedis && !hasRedis())) await underLock(prepare);
  process.exit(await run(NODE, [script, ...args], { stdio: 'inherit' }));
} catch (error) {
  if (received) process.exit(exitCodeOf(null, received));
  console.error(error instanceof BootstrapError ? error.message : error);
  process.exit(1);
}

async function prepare() {
  if (!isInstalled()) await installPackages();
  if (needsRedis && !hasRedis()) await installRedis();
}

/** Only one bootstrap at a time changes a checkout; the others wait, and then find everything done. */
async function underLock(work) {
  const deadline = Date.now() + LOCK_WAIT_MS_MAX;
  let lock = tryLock();
  if (!lock.taken) console.log(`Waiting for another installation in this checkout (pid ${lock.pid})`);
  while (!lock.taken) {
    if (Date.now() > deadline) throw new BootstrapError(`pid ${lock.pid} holds ${LOCK} for too long`);
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
    lock = tryLock();
  }
  process.once('exit', lock.release);
  await work();
  lock.release();
}

function tryLock() {
  try {
    return takeLock(LOCK);
  } catch (error) {
    throw new BootstrapError(`nothing can be installed in ${CHECKOUT} (${error.code})`);
  }
}

/** The lock file and the machine it was installed for: a folder shared with another system needs other binaries. */
function stampOf() {
  const hash = createHash('sha256').update(readFileSync(join(CHECKOUT, 'package-lock.json')));
  return `${hash.digest('hex')} ${process.platform}-${process.arch}\n`;
}

function isInstalled() {
  if (!isExecutable(NODE)) return false;
  if (existsSync(STAMP)) return readFileSync(STAMP, 'utf8') === stampOf();
  return isWhatNpmInstalled();
}

/** Somebody may have run `npm ci` by hand; npm keeps a list of what it put there. */
function isWhatNpmInstalled() {
  const list = join(MODULES, '.package-lock.json');
  if (!existsSync(list)) return false;
  const installed = JSON.parse(readFileSync(list, 'utf8')).packages;
  const wanted = JSON.parse(readFileSync(join(CHECKOUT, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, { version, optional }]) => path === '' || optional || installed[path]?.version === version,
  );
}

async function installPackages() {
  // A caller with NODE_ENV=production would otherwise get no Node, no Postgres and no bundler.
  const ci = ['npm', ['ci', '--include=dev'], { cwd: CHECKOUT }];
  await step('Installing packages', 'npm ci failed', [ci]);
  if (!isExecutable(NODE)) throw new BootstrapError(`npm ci has not installed ${NODE}`);
  writeFileSync(STAMP, stampOf());
}

function hasRedis() {
  return SERVERS.some((name) => isOnPath(name));
}

/** Says so at once, not after minutes of installing packages. */
function requireRedisOrApt() {
  if (hasRedis() || (process.getuid?.() === 0 && isOnPath('apt-get'))) return;
  throw new BootstrapError(`neither ${SERVERS.join(' nor ')} is on the PATH (${HINT})`);
}

async function installRedis() {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const isPolicyOurs = writePolicy();
  try {
    await step('Installing Redis', 'apt-get could not install redis-server', [
      ['apt-get', ['update'], { env }],
      ['apt-get', ['install', '-y', '--no-install-recommends', 'redis-server'], { env }],
    ]);
  } finally {
    if (isPolicyOurs) rmSync(POLICY, { force: true });
  }
  if (!hasRedis()) throw new BootstrapError(`redis-server is installed, but not on the PATH (${HINT})`);
}

/** Debian's package starts a Redis of its own unless a policy forbids it. An administrator's policy is left as it is. */
function writePolicy() {
  try {
    writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755, flag: 'wx' });
    process.once('exit', () => rmSync(POLICY, { force: true }));
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

/** Runs commands one after the other, with one line for people; what they say is shown only when one fails. */
async function step(label, failure, commands) {
  const folder = mkdtempSync(join(tmpdir(), 'turnout-'));
  const path = join(folder, 'log');
  const log = openSync(path, 'a');
  const startedAt = Date.now();
  process.stdout.write(`${label} … `);
  try {
    for (const [command, commandArgs, options] of commands) {
      const code = await run(command, commandArgs, { ...options, stdio: ['ignore', log, log] });
      if (code === 0 && !received) continue;
      process.stdout.write(received ? 'interrupted\n' : 'failed\n');
      if (received) throw new BootstrapError('interrupted');
      process.stderr.write(readFileSync(path));
      throw new BootstrapError(`${failure} (exit ${code})`);
    }
    process.stdout.write(`done (${Math.round((Date.now() - startedAt) / 1000)} s)\n`);
  } finally {
    closeSync(log);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs one command to its end and gives its exit code; the signals we get meanwhile are the child's. */
function run(command, commandArgs, options) {
  return new Promise((resolve, reject) => {
    child = spawn(command, commandArgs, options);
    child.once('error', (error) => {
      child = undefined;
      reject(new BootstrapError(`${command} does not run (${error.code})`));
    });
    child.once('exit', (code, signal) => {
      child = undefined;
      resolve(exitCodeOf(code, signal));
    });
  });
}

/** What a shell would say: 128 and the signal's number for a process that a signal ended. */
function exitCodeOf(code, signal) {
  return code ?? 128 + osConstants.signals[signal];
}

function isOnPath(name) {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .some((folder) => folder && isExecutable(join(folder, name)));
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
