import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { ROOT } from '#dev/root.ts';
import { BUNDLING } from '#handlers/bundling.ts';

const BASELINES = join(ROOT, 'dist/bench');

/**
 * Builds all bundles under measurement: the product's with its own build, the baselines with the same esbuild options.
 *
 * @throws when a build fails; its errors are on standard error
 */
export async function buildAll(): Promise<void> {
  const { status } = spawnSync(process.execPath, [join(ROOT, 'handlers/build.ts')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new Error('handlers/build.ts failed');
  await build({
    ...BUNDLING,
    entryPoints: globSync('bench/baselines/*.ts', { cwd: ROOT }).filter(
      (path) => basename(path) !== 'server.ts',
    ),
    outdir: BASELINES,
    outExtension: { '.js': '.mjs' },
  });
}

/** Returns the path of a baseline's bundle. */
export function baselineBundle(name: string): string {
  return join(BASELINES, `${name}.mjs`);
}
