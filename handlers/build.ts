import { cp, mkdir, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';
import { BUNDLING, ROOT } from './bundling.ts';
import { writeLicenses } from './licenses.ts';

const DIST = join(ROOT, 'dist');
const NODE_MODULES = join(ROOT, 'node_modules');
const BULL_BOARD_UI = 'node_modules/@bull-board/ui';

/** A cold vote handler must be ready before the crowd arrives, and its start-up time grows with its size. */
const VOTE_BYTES_MAX = 480_000;

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
  'ioredis/built/connectors/SentinelConnector/index.js': 'exports.default = undefined;',
  // Certificates of a cloud's Redis; here it listens on a socket of the same machine.
  'ioredis/built/constants/TLSProfiles.js': 'exports.default = {};',
  // What BullMQ compares versions of Redis with.
  'semver/index.js': ['valid', 'coerce', 'lt']
    .map((name) => `exports.${name} = require('semver/functions/${name}.js');`)
    .join('\n'),
};

const reduceModules: Plugin = {
  name: 'reduce-modules',
  setup: ({ onLoad }) => {
    onLoad({ filter: /\/node_modules\/(bullmq|ioredis|semver)\// }, ({ path }) => {
      const contents = REDUCED_MODULES[relative(NODE_MODULES, path)];
      return contents === undefined ? null : { contents, resolveDir: dirname(path) };
    });
  },
};

interface Bundle {
  readonly name: string;
  readonly entry: string;
  readonly options?: BuildOptions;
  readonly bytesMax?: number;
  /** Directories of packages whose files ship beside the bundle. */
  readonly alsoShipped?: readonly string[];
}

const BUNDLES: readonly Bundle[] = [
  {
    name: 'vote',
    entry: 'handlers/vote/main.ts',
    options: {
      plugins: [reduceModules],
      // The metrics client reads OpenTelemetry's spans for exemplars, which Turnout does not use.
      alias: { ...BUNDLING.alias, '@opentelemetry/api': 'data:text/javascript,' },
      // Naming each closure that a request creates would cost a twentieth of a vote.
      keepNames: false,
    },
    bytesMax: VOTE_BYTES_MAX,
  },
  { name: 'results', entry: 'handlers/results/main.ts' },
  { name: 'issuer', entry: 'handlers/issuer/main.ts' },
  { name: 'dashboard', entry: 'handlers/dashboard/main.ts', alsoShipped: [BULL_BOARD_UI] },
  { name: 'worker', entry: 'workers/main.ts' },
  { name: 'interlock', entry: 'stack/interlock/main.ts' },
];

/** Builds one bundle, its source map, its license texts and its SBOM; returns a line that states its size. */
async function buildBundle({ name, entry, options, bytesMax, alsoShipped }: Bundle): Promise<string> {
  const base = join(DIST, name);
  const outfile = `${base}.mjs`;
  const { metafile } = await build({
    ...BUNDLING,
    // Names of functions and classes in stack traces and in BullMQ's messages.
    keepNames: true,
    ...options,
    entryPoints: [entry],
    outfile,
    sourcemap: 'external',
    metafile: true,
    // `writeLicenses` moves these comments into the NOTICES file.
    legalComments: 'external',
  });
  writeLicenses({ base, metafile, alsoShipped });
  const { size } = await stat(outfile);
  if (bytesMax !== undefined && size > bytesMax) {
    throw new Error(`dist/${name}.mjs has ${size} bytes; its limit is ${bytesMax}`);
  }
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
