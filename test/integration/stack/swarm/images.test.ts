import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';

/** images.sh with a stand-in for Docker: the arguments of its builds. */
let scratch: Awaited<ReturnType<typeof scratchFolder>>;

beforeEach(async () => {
  scratch = await scratchFolder();
  for (const file of ['stack/swarm', 'package.json'])
    await cp(join(ROOT, file), join(scratch.path, file), { recursive: true });
  await mkdir(join(scratch.path, 'dist'));
  for (const name of ['vote', 'issuer', 'worker', 'results', 'dashboard', 'interlock'])
    await writeFile(join(scratch.path, `dist/${name}.mjs`), '');
  await writeFile(join(scratch.path, 'docker'), '#!/bin/sh\necho "$*" >>"$CALLS"\n', { mode: 0o755 });
});

afterEach(() => scratch.remove());

/** Builds all images, and returns the calls of Docker. */
async function build(settings: Readonly<Record<string, string>> = {}): Promise<string[]> {
  const calls = join(scratch.path, 'calls');
  await writeFile(calls, '');
  await promisify(execFile)('bash', [join(scratch.path, 'stack/swarm/images.sh'), 'build'], {
    env: { PATH: `${scratch.path}:${process.env['PATH']}`, CALLS: calls, ...settings },
  });
  return (await readFile(calls, 'utf8')).split('\n').filter((call) => call.startsWith('build '));
}

test('every build pulls the newest base images, except with TURNOUT_PULL=no', async () => {
  const [pulling, local] = [await build(), await build({ TURNOUT_PULL: 'no' })];
  expect(pulling).toHaveLength(10);
  for (const call of pulling) expect(call).toContain(' --pull ');
  for (const call of local) expect(call).not.toContain('--pull');
});
