// Plain JavaScript, because bootstrap.mjs needs it before the Node that strips types is installed. Types: lock.d.mts.
import { execFileSync } from 'node:child_process';
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

/** How often a lock that keeps changing hands is tried before we report its holder. */
const ATTEMPTS_MAX = 5;

/**
 * Tells a process from a later one that was given the same pid: when it started, and since which boot that counts.
 *
 * @param {number} pid
 * @returns {string | undefined} nothing when no such process runs; a zombie does not run
 */
export function identityOf(pid) {
  return process.platform === 'linux' ? identityFromProc(pid) : identityFromPs(pid);
}

function identityFromProc(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name of the program stands in parentheses and may hold anything; the fields after it are numbered from 3.
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
 * Takes a lock file that names its holder. A lock whose holder no longer runs is taken over.
 *
 * The file appears with its content in one step (a link), so nobody ever reads half of it.
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
      if (linkUnlessThere(draft, path)) return { taken: true, release: () => release(path, mine) };
      const pid = holderOf(readIfThere(path));
      if (pid !== undefined) return { taken: false, pid };
      removeStale(path);
    }
    return { taken: false, pid: Number.parseInt(readIfThere(path), 10) || 0 };
  } finally {
    rmSync(draft, { force: true });
  }
}

function linkUnlessThere(from, to) {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function readIfThere(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return '';
    throw error;
  }
}

function holderOf(content) {
  const [pid, ...identity] = content.trim().split(' ');
  return pid && identityOf(Number(pid)) === identity.join(' ') ? Number(pid) : undefined;
}

/** Two processes may find the same stale lock. The slower one may move away the lock of the faster, and puts it back. */
function removeStale(path) {
  const aside = `${path}.${process.pid}.stale`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (error.code === 'ENOENT') return;
    throw error;
  }
  if (holderOf(readIfThere(aside)) !== undefined) linkUnlessThere(aside, path);
  rmSync(aside, { force: true });
}

function release(path, mine) {
  if (readIfThere(path) === mine) rmSync(path, { force: true });
}
