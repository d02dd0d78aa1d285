import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { identityOf, takeLock } from '#dev/lock.mjs';
import { scratchFolder } from '#kit/process.ts';

let folder: Awaited<ReturnType<typeof scratchFolder>>;
const path = () => join(folder.path, 'lock');
beforeEach(async () => {
  folder = await scratchFolder();
});
afterEach(() => folder.remove());

test('one holder at a time; the other learns who it is', () => {
  const lock = takeLock(path());
  expect(takeLock(path())).toEqual({ taken: false, pid: process.pid });
  if (lock.taken) lock.release();
  expect(takeLock(path()).taken).toBe(true);
  expect(readdirSync(folder.path)).toEqual(['lock']);
});

test('the lock of a process that has ended is taken over, even when its pid lives on in another', () => {
  const { pid } = spawnSync('true');
  for (const holder of [`${pid} x:1`, `${process.pid} x:1`, '', 'garbage']) {
    writeFileSync(path(), `${holder}\n`);
    const lock = takeLock(path());
    expect(lock.taken).toBe(true);
    if (lock.taken) lock.release();
    expect(existsSync(path())).toBe(false);
  }
});

test('a lock that has passed on to somebody else is not released by its former holder', () => {
  const lock = takeLock(path());
  writeFileSync(path(), '1 x:1\n');
  if (lock.taken) lock.release();
  expect(existsSync(path())).toBe(true);
});

test('an identity is that of one process', () => {
  expect(identityOf(process.pid)).toBe(identityOf(process.pid));
  expect(identityOf(process.pid)).not.toBe(identityOf(process.ppid));
  expect(identityOf(spawnSync('true').pid)).toBeUndefined();
});
