import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';

const ROOT = join(import.meta.dirname, '..');
const BASELINES = join(ROOT, 'dist/bench');
const REQUIRE_FOR_COMMONJS =
  "import { createRequire as createRequireOf } from 'node:module'; const require = createRequireOf(import.meta.url);";

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
    absWorkingDir: ROOT,
    entryPoints: globSync('bench/baselines/*.ts', { cwd: ROOT }).filter(
      (path) => basename(path) !== 'server.ts',
    ),
    outdir: BASELINES,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    target: 'node26',
    mainFields: ['module', 'main'],
    external: ['pg-native', 'msgpackr-extract'],
    banner: { js: REQUIRE_FOR_COMMONJS },
    logLevel: 'warning',
  });
}

/** Where the bundle of a baseline is. */
export function baselineBundle(name: string): string {
  return join(BASELINES, `${name}.mjs`);
}
