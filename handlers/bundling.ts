import { dirname, join } from 'node:path';
import type { BuildOptions } from 'esbuild';

/** The directory of the project. */
export const ROOT = dirname(import.meta.dirname);

/** CommonJS packages inside the bundle ask for Node's own modules in their own way. */
const REQUIRE_FOR_COMMONJS =
  "import { createRequire as createRequireOf } from 'node:module'; const require = createRequireOf(import.meta.url);";

/** What makes a single file of a process, the same for all of ours and for what they are measured against. */
export const BUNDLING = {
  absWorkingDir: ROOT,
  bundle: true,
  minify: true,
  platform: 'node',
  format: 'esm',
  target: 'node26',
  // BullMQ ships ES modules beside CommonJS; only of those can parts be left out.
  mainFields: ['module', 'main'],
  external: ['pg-native'],
  banner: { js: REQUIRE_FOR_COMMONJS },
  // Without the add-on, which is for reading what BullMQ only writes, and not in our images.
  alias: { msgpackr: join(ROOT, 'node_modules/msgpackr/index.js') },
  logLevel: 'warning',
} satisfies BuildOptions;
