import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { findProgram } from '#dev/path.mjs';
import { until } from '#kit/until.ts';
import type { Frontend } from './system.ts';

/** Long enough that a Redis that syncs every second has synced what it wrote before we looked. */
const WATCH_MS = 1_500;
const WRITE = /^\d+ +write\((\d+)<([^>]+)>.*\) += (\d+)$/;
const SYNC = /^\d+ +f(?:data)?sync\((\d+)<([^>]+)>\) += 0$/;

/** Whether power losses can be made here. */
export function canLosePower(): boolean {
  return findProgram('strace') !== undefined;
}

/**
 * The power of a node goes out: handler and Redis end at the same moment, and whatever Redis had written to its
 * append-only file and not yet synced is gone. `strace` records its writes and syncs for a while before, and the file is
 * cut to what had been synced by then.
 *
 * @param trace a file for the record
 * @returns the bytes that were cut
 */
export async function losePower(
  { redis, handler, disk, redisOptions }: Frontend,
  trace: string,
): Promise<number> {
  await endRewrites(redisOptions);
  const file = appendOnlyFile(disk);
  const tracer = spawn(
    'strace',
    ['-f', '-y', '-e', 'trace=write,fdatasync,fsync', '-s', '0', '-o', trace, '-p', String(redis.pid)],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const exited = once(tracer, 'exit');
  let said = '';
  tracer.stderr.on('data', (data) => {
    said += String(data);
  });
  await until('strace is attached', () => said.includes('attached'));
  const sizeBefore = statSync(file).size;
  await sleep(WATCH_MS);
  await Promise.all([redis.end('SIGKILL'), handler.end('SIGKILL')]);
  await exited;
  const written = statSync(file).size;
  const synced = syncedSize(readFileSync(trace, 'utf8'), file, sizeBefore, written);
  truncateSync(file, synced);
  return written - synced;
}

/** The size up to which the file is safe: all of it, less the writes after the last sync. */
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

/** A rewrite would move the writes to another file while we look at this one. The next start allows them again. */
async function endRewrites(options: Frontend['redisOptions']): Promise<void> {
  const client = new Redis({ ...options, replyMapping: 'legacy' });
  client.on('error', () => {});
  try {
    await client.config('SET', 'auto-aof-rewrite-percentage', '0');
    await until('no rewrite is under way', async () => {
      const info = await client.info('persistence');
      return /^aof_rewrite_in_progress:0\r?$/m.test(info) && /^aof_rewrite_scheduled:0\r?$/m.test(info);
    });
  } finally {
    client.disconnect();
  }
}

/** The file that Redis appends to: the last incremental one of its manifest. */
function appendOnlyFile(disk: string): string {
  const folder = join(disk, 'appendonlydir');
  const manifest = readFileSync(join(folder, 'appendonly.aof.manifest'), 'utf8');
  const name = [...manifest.matchAll(/^file (\S+) seq \d+ type i/gm)].at(-1)?.[1];
  if (!name) throw new Error(`no append-only file in ${folder}`);
  return join(folder, name);
}
