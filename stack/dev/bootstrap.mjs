// Prepares a fresh checkout (packages, the pinned Node, a Redis), then runs a script with the pinned Node.
//
//   node stack/dev/bootstrap.mjs <script.ts> [args…]
//
// Runs on any Node from 20 on, before `npm ci`: plain JavaScript without packages.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { forbidServiceStarts, installCommands } from './apt.mjs';
import { takeLock } from './lock.mjs';
import { findProgram, findRedisServer, isExecutable, NO_REDIS_SERVER } from './path.mjs';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const MODULES = join(CHECKOUT, 'node_modules');
const NODE = join(MODULES, '.bin', 'node');
const STAMP = join(MODULES, '.turnout-installed');
/** Beside node_modules, because `npm ci` empties that folder. */
const LOCK = join(CHECKOUT, '.bootstrap.lock');
const LOCK_POLL_MS = 200;
const PARENT_POLL_MS = 200;
/** An installation over a slow network takes minutes. */
const LOCK_WAIT_MS_MAX = 15 * 60_000;
/** Scripts that need no Redis, so that a laptop can build and check without one. */
const WITHOUT_REDIS = new Set(['handlers/build.ts', 'test/check.ts']);

/** An expected failure: its message is all that the user needs. */
class BootstrapError extends Error {}

/** The process that runs now, and the first signal received. */
let child;
let received;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    received ??= signal;
    if (!child) process.exit(exitCodeOf(null, signal));
    // The terminal sends Ctrl-C to the whole process group. Forwarding it would look like a second key press.
    if (!(signal === 'SIGINT' && process.stdin.isTTY)) child.kill(signal);
  });
}

// A killed npm does not forward the signal. Its death shows as a new parent; the script must not outlive it.
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
const needsRedis = !WITHOUT_REDIS.has(script);
try {
  if (!script) throw new BootstrapError('usage: node stack/dev/bootstrap.mjs <script.ts> [args…]');
  if (needsRedis) requireRedisOrApt();
  if (!isPrepared()) await underLock(prepare);
  process.exit(await run(NODE, [script, ...args], { stdio: 'inherit' }));
} catch (error) {
  if (received) process.exit(exitCodeOf(null, received));
  console.error(error instanceof BootstrapError ? error.message : error);
  process.exit(1);
}

function isPrepared() {
  return isInstalled() && (!needsRedis || findRedisServer() !== undefined);
}

async function prepare() {
  if (!isInstalled()) await installPackages();
  if (needsRedis && !findRedisServer()) await installRedis();
}

/** Runs `work` while no other bootstrap changes this checkout. */
async function underLock(work) {
  const deadline = Date.now() + LOCK_WAIT_MS_MAX;
  let lock = tryLock();
  if (!lock.taken) console.log(`Waiting for another installation in this checkout (pid ${lock.pid})`);
  while (!lock.taken) {
    if (Date.now() > deadline) {
      throw new BootstrapError(
        `pid ${lock.pid} has held ${LOCK} for over ${LOCK_WAIT_MS_MAX / 60_000} minutes: stop that process, then try again`,
      );
    }
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
    throw new BootstrapError(`cannot install packages: no write access to ${CHECKOUT} (${error.code})`);
  }
}

/** Returns what `STAMP` holds after an installation: the lock file's hash, and the platform of the binaries. */
function currentStamp() {
  const hash = createHash('sha256').update(readFileSync(join(CHECKOUT, 'package-lock.json')));
  return `${hash.digest('hex')} ${process.platform}-${process.arch}\n`;
}

function isInstalled() {
  if (!isExecutable(NODE)) return false;
  if (existsSync(STAMP)) return readFileSync(STAMP, 'utf8') === currentStamp();
  return matchesNpmRecord();
}

/** Accepts an `npm ci` run by hand: npm records what it installed in node_modules/.package-lock.json. */
function matchesNpmRecord() {
  const record = join(MODULES, '.package-lock.json');
  if (!existsSync(record)) return false;
  const installed = JSON.parse(readFileSync(record, 'utf8')).packages;
  const wanted = JSON.parse(readFileSync(join(CHECKOUT, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, { version, optional }]) => path === '' || optional || installed[path]?.version === version,
  );
}

async function installPackages() {
  // With NODE_ENV=production, npm would omit Node, Postgres and the bundler.
  const ci = { command: 'npm', args: ['ci', '--include=dev'], cwd: CHECKOUT };
  await step('Installing packages', 'npm ci failed', [ci]);
  if (!isExecutable(NODE)) throw new BootstrapError(`npm ci succeeded, but ${NODE} is missing`);
  writeFileSync(STAMP, currentStamp());
}

/** Fails before minutes are spent on packages. */
function requireRedisOrApt() {
  if (findRedisServer() || (process.getuid?.() === 0 && findProgram('apt-get'))) return;
  throw new BootstrapError(NO_REDIS_SERVER);
}

async function installRedis() {
  const allowServiceStarts = forbidServiceStarts();
  try {
    const commands = installCommands(['redis-server']);
    await step('Installing Redis', 'apt-get could not install redis-server', commands);
  } finally {
    allowServiceStarts();
  }
  if (!findRedisServer()) throw new BootstrapError(`apt-get succeeded, but ${NO_REDIS_SERVER}`);
}

/** Runs commands one after the other behind one line of progress; shows their output only on failure. */
async function step(label, failure, commands) {
  const folder = mkdtempSync(join(tmpdir(), 'turnout-'));
  const path = join(folder, 'log');
  const log = openSync(path, 'a');
  const startedAt = Date.now();
  process.stdout.write(`${label} … `);
  try {
    for (const { command, args: commandArgs, ...options } of commands) {
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

/** Runs a command to its end and returns its exit code. Signals received meanwhile go to the command. */
function run(command, commandArgs, options) {
  return new Promise((resolve, reject) => {
    child = spawn(command, commandArgs, options);
    child.once('error', (error) => {
      child = undefined;
      reject(new BootstrapError(`cannot run ${command} (${error.code})`));
    });
    child.once('exit', (code, signal) => {
      child = undefined;
      resolve(exitCodeOf(code, signal));
    });
  });
}

/** Returns the exit code as a shell reports it: 128 plus the signal's number after a signal. */
function exitCodeOf(code, signal) {
  return code ?? 128 + constants.signals[signal];
}
