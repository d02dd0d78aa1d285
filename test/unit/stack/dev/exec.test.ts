import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StartError } from '#dev/errors.ts';
import { run } from '#dev/exec.ts';
import { identityOf } from '#dev/lock.mjs';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';

const MS_MAX = 20_000;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
beforeEach(async () => {
  folder = await scratchFolder();
});
afterEach(() => folder.remove());

const shell = (script: string) => ({ command: 'sh', args: ['-c', script] });
const options = { what: 'the program', msMax: MS_MAX };
const failureOf = (work: Promise<string>): Promise<unknown> => work.catch((error: unknown) => error);

/** A program that ignores SIGTERM and has a child; writes the child's pid to a file. */
const pidFile = () => join(folder.path, 'pid');
const stubborn = () => shell(`trap "" TERM; sleep 300 & echo $! > ${pidFile()}; echo started; wait`);
const childPid = () => Number.parseInt(readFileSync(pidFile(), 'utf8'), 10);
const childHasEnded = () => identityOf(childPid()) === undefined;

test('returns standard output and error of a program that reads its input', async () => {
  const output = await run(shell('cat; echo warning >&2'), { ...options, input: 'text\n' });
  expect(output.split('\n').toSorted()).toEqual(['', 'text', 'warning']);
});

test('ends the standard input of a program without input', async () => {
  expect(await run({ command: 'cat', args: [] }, options)).toBe('');
});

test('ignores input that the program does not read', async () => {
  expect(await run(shell('exec <&-; echo done'), { ...options, input: 'x'.repeat(1_000_000) })).toBe(
    'done\n',
  );
});

test('replaces the environment', async () => {
  const output = await run({ command: '/usr/bin/env', args: [] }, { ...options, env: { ONLY: 'this' } });
  expect(output).toBe('ONLY=this\n');
});

test('fails with the exit code and the last lines of a program', async () => {
  const error = await failureOf(run(shell('echo; seq 30; exit 3'), options));
  expect(error).toBeInstanceOf(StartError);
  expect(error).toMatchObject({
    message: 'the program failed: exit 3',
    details: Array.from({ length: 20 }, (_, index) => String(index + 11)),
  });
});

test('fails with the signal that killed a program', async () => {
  const error = await failureOf(run(shell('kill -KILL $$'), options));
  expect(error).toMatchObject({ message: 'the program failed: killed by SIGKILL' });
});

test('fails when a program does not exist', async () => {
  const error = await failureOf(run({ command: '/no/such/program', args: [] }, options));
  expect(error).toBeInstanceOf(StartError);
  expect((error as Error).message).toMatch(/^the program failed: cannot run \/no\/such\/program .*ENOENT/);
});

test('kills a program that exceeds its deadline, with its process group', async () => {
  const error = await failureOf(run(stubborn(), { ...options, msMax: 500 }));
  expect(error).toMatchObject({ message: 'the program took over 0.5 s', details: ['started'] });
  await until('its child has ended', childHasEnded);
});

test('kills an aborted program, with its process group, and throws the reason', async () => {
  const interrupt = new AbortController();
  const failure = failureOf(run(stubborn(), { ...options, signal: interrupt.signal }));
  await until('the program runs', () => existsSync(pidFile()) && childPid() > 0);
  interrupt.abort();
  expect(await failure).toMatchObject({ name: 'AbortError' });
  await until('its child has ended', childHasEnded);
  expect(await failureOf(run(shell(''), { ...options, signal: interrupt.signal }))).toMatchObject({
    name: 'AbortError',
  });
});
