import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from '#dev/root.ts';
import { installPrograms } from '#kit/programs.ts';

/** The vitest projects of `npm test`; the tests on a Swarm run with `npm run test:swarm`. */
const PROJECTS = ['unit', 'integration', 'e2e'].flatMap((name) => ['--project', name]);

const VITEST = join(ROOT, 'node_modules/.bin/vitest');

/**
 * `npm test [-- vitest arguments]`: runs the checks of `npm run check`, builds the bundles, then runs all tests.
 *
 * With arguments it skips the checks and passes them to vitest: `npm test -- capture` runs the matching files,
 * `npm test -- --project unit` one project, `npm test -- -u` updates the golden files.
 */
const vitestArgs = process.argv.slice(2);

function run(program: string, ...args: string[]): void {
  const { status } = spawnSync(program, args, { cwd: ROOT, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

await installPrograms();
if (vitestArgs.length === 0) run(process.execPath, 'test/check.ts');
run(process.execPath, 'handlers/build.ts');
run(process.execPath, 'test/smoke.ts');
const projects = vitestArgs.includes('--project') ? [] : PROJECTS;
run(process.execPath, VITEST, 'run', '--config', 'test/vitest.config.ts', ...projects, ...vitestArgs);
