import { cp, mkdir, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { BUNDLING, ROOT } from './bundling.ts';
import { writeLicenses } from './licenses.ts';

const DIST = join(ROOT, 'dist');
const NODE_MODULES = join(ROOT, 'node_modules');
const BULL_BOARD_UI = 'node_modules/@bull-board/ui';

/** A cold vote handler must be ready before the crowd arrives, and its start-up time grows with its size. */
const VOTE_BYTES_MAX = 500_000;

/**
 * Modules that the vote handler needs in part or not at all, and what replaces them. It only adds jobs, to a single
 * Redis, through ioredis. Calling what is missing throws.
 */
const REDUCED_MODULES: Readonly<Record<string, string>> = {
  'bullmq/dist/esm/index.js': [
    "export { Job } from 'bullmq/dist/esm/classes/job.js';",
    "export { Queue } from 'bullmq/dist/esm/classes/queue.js';",
  ].join('\n'),
  'bullmq/dist/esm/scripts/index.js': "export * from 'bullmq/dist/esm/scripts/addStandardJob-9.js';",
  'bullmq/dist/esm/classes/job-scheduler.js': 'export const JobScheduler = undefined;',
  'bullmq/dist/esm/classes/node-redis-client.js': 'export const createNodeRedisClient = undefined;',
  'bullmq/dist/esm/classes/bun-redis-client.js': 'export const createBunRedisClient = undefined;',
  // `redis instanceof Cluster` must stay possible.
  'ioredis/built/cluster/index.js': 'exports.default = class Cluster {};',
  // Read only for exemplars, which no metric of ours has.
  '@opentelemetry/api/dist/index.cjs': 'module.exports = {};',
};

const reduceModules: Plugin = {
  name: 'reduce-modules',
  setup: ({ onLoad }) => {
    onLoad({ filter: /\/(bullmq|ioredis|@opentelemetry)\// }, ({ path }) => {
      const contents = REDUCED_MODULES[relative(NODE_MODULES, path)];
      return contents === undefined ? null : { contents, resolveDir: dirname(path) };
    });
  },
};

interface Bundle {
  readonly name: string;
  readonly entry: string;
  readonly bytesMax?: number;
  readonly plugins?: Plugin[];
  /** Names of functions and classes in stack traces. Renaming every closure of a request costs a twentieth of a vote. */
  readonly keepNames: boolean;
  /** Directories of packages whose files ship beside the bundle. */
  readonly alsoShipped?: readonly string[];
}

const BUNDLES: readonly Bundle[] = [
  {
    name: 'vote',
    entry: 'handlers/vote/main.ts',
    bytesMax: VOTE_BYTES_MAX,
    plugins: [reduceModules],
    keepNames: false,
  },
  { name: 'results', entry: 'handlers/results/main.ts', keepNames: true },
  { name: 'dashboard', entry: 'handlers/dashboard/main.ts', keepNames: true, alsoShipped: [BULL_BOARD_UI] },
  { name: 'worker', entry: 'workers/main.ts', keepNames: true },
  { name: 'interlock', entry: 'stack/interlock/main.ts', keepNames: true },
];

/** Builds one bundle, its source map, its license texts and its SBOM; returns a line that states its size. */
async function buildBundle(bundle: Bundle): Promise<string> {
  const {
    name,
    entry,
    bytesMax = Number.POSITIVE_INFINITY,
    plugins = [],
    keepNames,
    alsoShipped = [],
  } = bundle;
  const base = join(DIST, name);
  const outfile = `${base}.mjs`;
  const { metafile } = await build({
    ...BUNDLING,
    entryPoints: [entry],
    outfile,
    keepNames,
    plugins,
    sourcemap: 'external',
    metafile: true,
    // `writeLicenses` moves the comments into the NOTICES file.
    legalComments: 'external',
  });
  writeLicenses({ base, metafile, alsoShipped });
  const { size } = await stat(outfile);
  if (size > bytesMax) throw new Error(`dist/${name}.mjs has ${size} bytes; its limit is ${bytesMax}`);
  return `${relative(ROOT, outfile).padEnd(20)} ${String(Math.ceil(size / 1_000)).padStart(5)} KB`;
}

/** `node handlers/build.ts [name…]` builds all bundles, or those named, into `dist/`. */
const wanted = process.argv.slice(2);
const chosen = BUNDLES.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
try {
  await mkdir(DIST, { recursive: true });
  for (const line of await Promise.all(chosen.map(buildBundle))) console.log(line);
  // The dashboard serves bull-board's pages, which are files.
  await cp(join(ROOT, BULL_BOARD_UI, 'dist'), join(DIST, 'bull-board-ui'), { recursive: true });
} catch (error) {
  console.error(`Build failed: ${(error as Error).message}`);
  process.exitCode = 1;
}
