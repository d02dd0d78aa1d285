import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '#dev/root.ts';
import { findViolations, readModules } from './imports.ts';

/**
 * `npm run check`: the gate before every commit. Runs everything, says what failed, and exits 1 if anything did.
 */
const BIN = join(ROOT, 'node_modules/.bin');

function run(title: string, program: string, ...args: string[]): boolean {
  const { status, stdout, stderr } = spawnSync(join(BIN, program), args, { encoding: 'utf8' });
  return report(title, status === 0, `${stdout}${stderr}`);
}

function report(title: string, passed: boolean, details: string): boolean {
  console.log(`${passed ? 'ok     ' : 'FAILED '} ${title}`);
  if (!passed) console.log(details);
  return passed;
}

/** Shell scripts are checked where that can be done; `npm test` installs what it takes. */
function checkShell(): boolean {
  const title = 'shell scripts';
  const scripts = globSync('{.ci/run,{aws,stack,vagrant,test}/**/*.sh}', { cwd: ROOT });
  const args = ['--external-sources', '--source-path=SCRIPTDIR', ...scripts];
  const { error, status, stdout } = spawnSync('shellcheck', args, { cwd: ROOT, encoding: 'utf8' });
  if (error) {
    console.log(`skipped ${title} (there is no shellcheck here)`);
    return true;
  }
  return report(`${title} (${scripts.length} files)`, status === 0 && scripts.length > 0, stdout);
}

const modules = readModules();
const violations = findViolations(modules);
const results = [
  run('format and lint', 'biome', 'check', '--error-on-warnings', '.'),
  run('types', 'tsc', '-p', '.'),
  run('dead code', 'knip', '--no-progress'),
  checkShell(),
  report(`import rules (${modules.length} files)`, violations.length === 0, violations.join('\n')),
];
process.exitCode = results.every(Boolean) ? 0 : 1;
