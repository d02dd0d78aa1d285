import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from '#dev/root.ts';
import { installPrograms } from '#kit/programs.ts';

/** What `npm test` runs; the tests on a Swarm have a command of their own, `npm run test:swarm`. */
const PROJECTS = ['unit', 'integration', 'e2e'].flatMap((name) => ['--project', name]);

/**
 * `npm test [-- vitest arguments]`: the gate, fresh bundles, then all tests. With arguments only the tests they name:
 * `npm test -- capture` for a file, `npm test -- --project unit` for a project, `npm test -- -u` for golden files.
 */
const BIN = join(ROOT, 'node_modules/.bin');
const chosen = process.argv.slice(2);

function run(program: string, ...args: string[]): void {
  const { status } = spawnSync(program, args, { cwd: ROOT, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

await installPrograms();
if (chosen.length === 0) run(process.execPath, 'test/check.ts');
run(process.execPath, 'handlers/build.ts');
run(process.execPath, 'test/smoke.ts');
const projects = chosen.includes('--project') ? [] : PROJECTS;
run(
  process.execPath,
  join(BIN, 'vitest'),
  'run',
  '--config',
  'test/vitest.config.ts',
  ...projects,
  ...chosen,
);
