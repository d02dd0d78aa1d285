// A lock file with stale-lock detection. Plain JavaScript because bootstrap.mjs imports it; types: lock.d.mts.
import { execFileSync } from 'node:child_process';
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

/** Attempts at a lock that keeps changing hands. */
const ATTEMPTS_MAX = 5;

/**
 * Returns a string that distinguishes a process from a later one with the same pid: its boot and its start time.
 *
 * @param {number} pid
 * @returns {string | undefined} `undefined` if no such process runs; a zombie does not count as running
 */
export function identityOf(pid) {
  return process.platform === 'linux' ? identityFromProc(pid) : identityFromPs(pid);
}

function identityFromProc(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Field 2, the program's name in parentheses, may contain anything; field 3 follows its last parenthesis.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, startTime] = [fields[0], fields[19]];
    if (state === 'Z' || state === 'X') return undefined;
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}:${startTime}`;
  } catch {
    return undefined;
  }
}

function identityFromPs(pid) {
  try {
    const [state, ...started] = execFileSync('ps', ['-o', 'stat=', '-o', 'lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
      .trim()
      .split(/\s+/);
    return !state || state.startsWith('Z') ? undefined : started.join(' ');
  } catch {
    return undefined;
  }
}

/**
 * Takes a lock file that names its holder. Takes over a lock whose holder no longer runs.
 *
 * The file is written under another name and linked into place, so no reader sees half of it.
 *
 * @param {string} path in a folder that exists
 * @returns {{ taken: true, release: () => void } | { taken: false, pid: number }} `pid` is the holder's
 */
export function takeLock(path) {
  const mine = `${process.pid} ${identityOf(process.pid)}\n`;
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, mine, { mode: 0o600 });
  try {
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
      if (linkUnlessExists(draft, path)) return { taken: true, release: () => release(path, mine) };
      const pid = runningHolderOf(readIfExists(path));
      if (pid !== undefined) return { taken: false, pid };
      removeStale(path);
    }
    return { taken: false, pid: Number.parseInt(readIfExists(path), 10) || 0 };
  } finally {
    rmSync(draft, { force: true });
  }
}

function linkUnlessExists(from, to) {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function readIfExists(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return '';
    throw error;
  }
}

function runningHolderOf(content) {
  const [pid, ...identity] = content.trim().split(' ');
  return pid && identityOf(Number(pid)) === identity.join(' ') ? Number(pid) : undefined;
}

/** Removes a stale lock. Restores the lock if another process took over the stale one first and this moved the new one. */
function removeStale(path) {
  const aside = `${path}.${process.pid}.stale`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (error.code === 'ENOENT') return;
    throw error;
  }
  if (runningHolderOf(readIfExists(aside)) !== undefined) linkUnlessExists(aside, path);
  rmSync(aside, { force: true });
}

function release(path, mine) {
  if (readIfExists(path) === mine) rmSync(path, { force: true });
}
