import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { findViolations, readModules } from './imports.ts';

/**
 * `npm run check`: the gate before every commit. Runs everything, says what failed, and exits 1 if anything did.
 */
const BIN = join(import.meta.dirname, '../node_modules/.bin');

function run(title: string, program: string, ...args: string[]): boolean {
  const { status, stdout, stderr } = spawnSync(join(BIN, program), args, { encoding: 'utf8' });
  return report(title, status === 0, `${stdout}${stderr}`);
}

function report(title: string, passed: boolean, details: string): boolean {
  console.log(`${passed ? 'ok     ' : 'FAILED '} ${title}`);
  if (!passed) console.log(details);
  return passed;
}

const modules = readModules();
const violations = findViolations(modules);
const results = [
  run('format and lint', 'biome', 'check', '--error-on-warnings', '.'),
  run('types', 'tsc', '-p', '.'),
  run('dead code', 'knip', '--no-progress'),
  report(`import rules (${modules.length} files)`, violations.length === 0, violations.join('\n')),
];
process.exitCode = results.every(Boolean) ? 0 : 1;
