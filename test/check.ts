import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '#dev/root.ts';
import { findBrokenReferences, readProject } from './docs.ts';
import { findViolations, readModules } from './imports.ts';

/**
 * `npm run check`: the gate before every commit. Runs all steps side by side, prints what each found, and exits 1 if any
 * failed.
 */

interface Outcome {
  readonly title: string;
  readonly status: 'ok' | 'FAILED' | 'skipped';
  readonly details?: string;
}

/** A type check prints more than Node's default of 1 MB only when everything is broken. */
const OUTPUT_BYTES_MAX = 10_000_000;
const BIN = join(ROOT, 'node_modules/.bin');

async function run(title: string, program: string, ...args: string[]): Promise<Outcome> {
  try {
    await promisify(execFile)(program, args, { cwd: ROOT, maxBuffer: OUTPUT_BYTES_MAX });
    return { title, status: 'ok' };
  } catch (error) {
    const { code, stdout = '', stderr = '' } = error as { code?: unknown; stdout?: string; stderr?: string };
    if (code === 'ENOENT') return { title: `${title} (${program} is not installed)`, status: 'skipped' };
    return { title, status: 'FAILED', details: `${stdout}${stderr}` };
  }
}

/** `npm test` installs shellcheck where it can; elsewhere the step is skipped. */
function checkShell(): Promise<Outcome> {
  const scripts = globSync('{.ci/run,{aws,stack,vagrant,test}/**/*.sh}', { cwd: ROOT });
  const options = ['--external-sources', '--source-path=SCRIPTDIR'];
  return run(`shell scripts (${scripts.length} files)`, 'shellcheck', ...options, ...scripts);
}

function checkImports(): Outcome {
  const modules = readModules();
  return judge(`import rules (${modules.length} files)`, findViolations(modules));
}

function checkDocuments(): Outcome {
  const project = readProject();
  const documents = project.files.filter((path) => path.endsWith('.md'));
  const faults = documents.flatMap((path) =>
    findBrokenReferences(path, readFileSync(join(ROOT, path), 'utf8'), project),
  );
  return judge(
    `documentation (${documents.length} files)`,
    documents.length > 0 ? faults : ['no document found'],
  );
}

function judge(title: string, faults: readonly string[]): Outcome {
  return faults.length === 0
    ? { title, status: 'ok' }
    : { title, status: 'FAILED', details: faults.join('\n') };
}

const outcomes = await Promise.all([
  run('format and lint', join(BIN, 'biome'), 'check', '--error-on-warnings', '.'),
  run('types', join(BIN, 'tsc'), '-p', '.'),
  run('dead code', join(BIN, 'knip'), '--no-progress'),
  checkShell(),
  checkImports(),
  checkDocuments(),
]);
for (const { title, status, details } of outcomes) {
  console.log(`${status.padEnd(8)}${title}`);
  if (details) console.log(details);
}
// In CI a skipped step must not pass for a successful one.
const isStrict = process.env['TURNOUT_TEST_STRICT'] !== undefined;
process.exitCode = outcomes.some(({ status }) => status === 'FAILED' || (isStrict && status === 'skipped'))
  ? 1
  : 0;
