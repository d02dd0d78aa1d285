import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { BUNDLING, ROOT } from '#handlers/bundling.ts';

const BASELINES = join(ROOT, 'dist/bench');

/**
 * Builds everything that is measured: our own bundles by their own build, the baselines with the same settings as the
 * vote handler, because what a function is called already has its price.
 *
 * @throws when either fails; the output has said why
 */
export async function buildAll(): Promise<void> {
  const { status } = spawnSync(process.execPath, [join(ROOT, 'handlers/build.ts')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new Error('the bundles could not be built');
  await build({
    ...BUNDLING,
    entryPoints: globSync('bench/baselines/*.ts', { cwd: ROOT }).filter(
      (path) => basename(path) !== 'server.ts',
    ),
    outdir: BASELINES,
    outExtension: { '.js': '.mjs' },
  });
}

/** Where the bundle of a baseline is. */
export function baselineBundle(name: string): string {
  return join(BASELINES, `${name}.mjs`);
}
