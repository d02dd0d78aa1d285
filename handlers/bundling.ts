import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { BuildOptions } from 'esbuild';

/** The directory of the project. */
export const ROOT = dirname(import.meta.dirname);

/** Bundled CommonJS packages call `require` for Node's own modules; an ES module has none. */
const REQUIRE_FOR_COMMONJS =
  "import { createRequire as createRequireOf } from 'node:module'; const require = createRequireOf(import.meta.url);";

const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };

/** The esbuild options of the bundles and of the baselines that they are measured against. */
export const BUNDLING = {
  absWorkingDir: ROOT,
  bundle: true,
  minify: true,
  platform: 'node',
  format: 'esm',
  target: 'node26',
  // BullMQ ships ES modules beside CommonJS, and esbuild can drop unused parts of the former only.
  mainFields: ['module', 'main'],
  external: ['pg-native'],
  define: { TURNOUT_VERSION: JSON.stringify(version) },
  banner: { js: REQUIRE_FOR_COMMONJS },
  // The pure JavaScript entry point. The default one loads a native add-on, which the images do not contain.
  alias: { msgpackr: join(ROOT, 'node_modules/msgpackr/index.js') },
  logLevel: 'warning',
} satisfies BuildOptions;
