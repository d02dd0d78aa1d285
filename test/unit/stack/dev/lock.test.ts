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

test('admits one holder, and names it to others', () => {
  const lock = takeLock(path());
  expect(takeLock(path())).toEqual({ taken: false, pid: process.pid });
  if (lock.taken) lock.release();
  expect(takeLock(path()).taken).toBe(true);
  expect(readdirSync(folder.path)).toEqual(['lock']);
});

test('takes over the lock of an ended process, even if another process has its pid', () => {
  const { pid } = spawnSync('true');
  for (const holder of [`${pid} x:1`, `${process.pid} x:1`, '', 'garbage']) {
    writeFileSync(path(), `${holder}\n`);
    const lock = takeLock(path());
    expect(lock.taken).toBe(true);
    if (lock.taken) lock.release();
    expect(existsSync(path())).toBe(false);
  }
});

test('does not release a lock that has a new holder', () => {
  const lock = takeLock(path());
  writeFileSync(path(), '1 x:1\n');
  if (lock.taken) lock.release();
  expect(existsSync(path())).toBe(true);
});

test('gives each running process its own identity', () => {
  expect(identityOf(process.pid)).toBe(identityOf(process.pid));
  expect(identityOf(process.pid)).not.toBe(identityOf(process.ppid));
  expect(identityOf(spawnSync('true').pid)).toBeUndefined();
});
