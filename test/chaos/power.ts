import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram } from '#dev/path.mjs';
import { until } from '#kit/until.ts';
import { type Frontend, withRedis } from './system.ts';

/** Over a second, so that a Redis with `appendfsync everysec` has synced what it wrote before the trace began. */
const TRACE_MS = 1_500;
const WRITE = /^\d+ +write\((\d+)<([^>]+)>.*\) += (\d+)$/;
const SYNC = /^\d+ +f(?:data)?sync\((\d+)<([^>]+)>\) += 0$/;

/** Returns whether a power loss can be simulated here. */
export function canLosePower(): boolean {
  return findProgram('strace') !== undefined;
}

/**
 * Simulates a power loss: kills a node's handler and Redis at the same moment and truncates the append-only file to what
 * was synced. `strace` records the writes and syncs beforehand.
 *
 * @param trace path of the recording
 * @returns the number of bytes cut off
 */
export async function losePower(frontend: Frontend, trace: string): Promise<number> {
  const { redis, handler, disk } = frontend;
  await endRewrites(frontend);
  const file = appendOnlyFile(disk);
  const tracer = spawn(
    'strace',
    ['-f', '-y', '-e', 'trace=write,fdatasync,fsync', '-s', '0', '-o', trace, '-p', String(redis.pid)],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const exited = once(tracer, 'exit');
  let output = '';
  tracer.stderr.on('data', (data) => {
    output += String(data);
  });
  await until('strace is attached', () => output.includes('attached'));
  const sizeBefore = statSync(file).size;
  await sleep(TRACE_MS);
  await Promise.all([redis.end('SIGKILL'), handler.end('SIGKILL')]);
  await exited;
  const written = statSync(file).size;
  const synced = syncedSize(readFileSync(trace, 'utf8'), file, sizeBefore, written);
  truncateSync(file, synced);
  return written - synced;
}

/** Returns the synced size of the file: its size less the writes after the last sync. */
function syncedSize(trace: string, file: string, sizeBefore: number, written: number): number {
  let unsynced = 0;
  let hasSynced = false;
  for (const line of trace.split('\n')) {
    const write = WRITE.exec(line);
    if (write?.[2] === file) unsynced += Number(write[3]);
    else if (SYNC.exec(line)?.[2] === file) {
      unsynced = 0;
      hasSynced = true;
    }
  }
  return hasSynced ? written - unsynced : Math.min(sizeBefore, written);
}

/** Disables rewrites until the next start: one would move the writes to another file during the trace. */
async function endRewrites(frontend: Frontend): Promise<void> {
  await withRedis(frontend, async (client) => {
    await client.config('SET', 'auto-aof-rewrite-percentage', '0');
    await until('no rewrite is in progress', async () => {
      const info = await client.info('persistence');
      return /^aof_rewrite_in_progress:0\r?$/m.test(info) && /^aof_rewrite_scheduled:0\r?$/m.test(info);
    });
  });
}

/** Cuts off what follows the last whole command, with the command that the manual documents. */
export function repairAppendOnlyFile(disk: string): void {
  const manifest = join(disk, 'appendonlydir', 'appendonly.aof.manifest');
  const { status, stdout } = spawnSync('redis-check-aof', ['--fix', manifest], {
    input: 'y\n',
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`redis-check-aof failed: ${stdout}`);
}

/** Returns the file that Redis appends to: the last incremental one of its manifest. */
export function appendOnlyFile(disk: string): string {
  const folder = join(disk, 'appendonlydir');
  const manifest = readFileSync(join(folder, 'appendonly.aof.manifest'), 'utf8');
  const name = [...manifest.matchAll(/^file (\S+) seq \d+ type i/gm)].at(-1)?.[1];
  if (!name) throw new Error(`no append-only file in ${folder}`);
  return join(folder, name);
}
