import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from '#dev/root.ts';

/**
 * `npm run test:swarm [-- vitest arguments]`: creates a Swarm of several nodes on this machine and tests Turnout on it. Needs
 * Linux and root; on Debian it installs missing programs.
 */
const VITEST = join(ROOT, 'node_modules/.bin/vitest');

function run(...args: string[]): void {
  const { status } = spawnSync(process.execPath, args, { cwd: ROOT, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

run('handlers/build.ts');
run(
  VITEST,
  'run',
  '--config',
  'test/vitest.config.ts',
  '--project',
  'swarm',
  '--reporter',
  'verbose',
  ...process.argv.slice(2),
);
