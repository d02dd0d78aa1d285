import { cp, mkdir, readFile, stat } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { join, relative } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { BUNDLING, ROOT } from './bundling.ts';

const DIST = join(ROOT, 'dist');

/** A cold handler must be ready before the crowd is; what it loads is what it waits for. */
const VOTE_BYTES_MAX = 500_000;

/**
 * What nobody here uses: BullMQ's code for other databases and other Redis clients, and OpenTelemetry's, which
 * prom-client loads for exemplars that we do not take.
 */
const UNUSED_BY_ALL = [
  /bullmq\/dist\/esm\/postgres\//,
  /bullmq\/dist\/esm\/classes\/(bun-redis-client|node-redis-client|valkey-glide-client)\.js$/,
  /bullmq\/dist\/esm\/classes\/(relay|redis-relay-backend|flow-producer)\.js$/,
  /@opentelemetry\/api\//,
];

/** What only those need who work on jobs or schedule them, and Redis clusters, which a node's own Redis is not. */
const UNUSED_BY_PRODUCERS = [
  /bullmq\/dist\/esm\/classes\/(worker|sandbox|child|child-pool|child-processor|job-scheduler)\.js$/,
  /bullmq\/dist\/esm\/classes\/(lock-manager|queue-events|queue-events-producer)\.js$/,
  /bullmq\/dist\/esm\/scripts\/(?!addStandardJob-|index)[^/]+\.js$/,
  /ioredis\/built\/cluster\/index\.js$/,
];

interface Bundle {
  readonly name: string;
  readonly entry: string;
  readonly unused: readonly RegExp[];
  readonly bytesMax?: number;
  /** Runs for every vote, so that even what a function is called has its price. */
  readonly isHot?: boolean;
}

const BUNDLES: readonly Bundle[] = [
  {
    name: 'vote',
    entry: 'handlers/vote/main.ts',
    unused: [...UNUSED_BY_ALL, ...UNUSED_BY_PRODUCERS],
    bytesMax: VOTE_BYTES_MAX,
    isHot: true,
  },
  { name: 'results', entry: 'handlers/results/main.ts', unused: [] },
  { name: 'dashboard', entry: 'handlers/dashboard/main.ts', unused: UNUSED_BY_ALL },
  { name: 'worker', entry: 'workers/main.ts', unused: UNUSED_BY_ALL },
  { name: 'interlock', entry: 'stack/interlock/main.ts', unused: UNUSED_BY_ALL },
];

/**
 * Replaces modules by ones with the same exports, each of which throws when it is used. Leaving out something that is
 * needed after all is then a clear error, not a wrong behaviour. Scripts become nothing at all: they are looked up by
 * name, and a missing one is an unknown command.
 */
function leaveOut(unused: readonly RegExp[]): Plugin {
  return {
    name: 'leave-out',
    setup: ({ onLoad }) => {
      onLoad({ filter: /node_modules\/(bullmq|ioredis|@opentelemetry)\/.*\.c?js$/ }, async ({ path }) =>
        unused.some((pattern) => pattern.test(path)) ? { contents: await stubOf(path) } : null,
      );
    },
  };
}

/** What Node's own modules are to the vote handler, where that is less than all of them. */
const BUILTIN_PARTS: Readonly<Record<string, string>> = {
  // For a Redis that is elsewhere.
  tls: "exports.connect = (...args) => process.getBuiltinModule('node:tls').connect(...args);",
  // @hono/node-server asks of every request whether it came by HTTP/2. We serve HTTP/1, and the proxy the rest.
  http2: 'exports.Http2ServerRequest = class Http2ServerRequest {}; exports.constants = {};',
};

/**
 * Takes Node's own modules when they are needed, and without the list of names that comes with an import: to make the
 * list of `node:http` loads all of `fetch`. A cold handler has its first vote sooner by a tenth.
 */
const loadBuiltinsLate: Plugin = {
  name: 'load-builtins-late',
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /^(node:)?[a-z0-9_/]+$/ }, ({ path }) =>
      isBuiltin(path) ? { path: path.replace(/^node:/, ''), namespace: 'builtin' } : null,
    );
    onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: BUILTIN_PARTS[path] ?? `module.exports = process.getBuiltinModule('node:${path}');`,
    }));
  },
};

async function stubOf(path: string): Promise<string> {
  if (path.includes('/esm/scripts/') || path.includes('/esm/postgres/')) return 'export {};';
  if (path.includes('/@opentelemetry/')) return 'module.exports = {};';
  if (path.includes('/ioredis/')) return `exports.default = ${stubClass('Cluster')};`;
  const source = await readFile(path, 'utf8');
  const names = source.matchAll(/^export (?:async )?(?:class|function|const) (\w+)/gm);
  return ['export {};', ...names.map(([, name = '']) => `export ${stubClass(name)}`)].join('\n');
}

function stubClass(name: string): string {
  return `class ${name} { constructor() { throw new Error('${name} is left out of this bundle'); } }`;
}

async function bundle({ name, entry, unused, bytesMax, isHot = false }: Bundle): Promise<string> {
  const outfile = join(DIST, `${name}.mjs`);
  await build({
    ...BUNDLING,
    entryPoints: [entry],
    outfile,
    // Stack traces and BullMQ's messages name classes and functions. Not where it costs a twentieth of a vote: every
    // closure that is made for a request would be given its name anew.
    keepNames: !isHot,
    sourcemap: 'external',
    plugins: isHot ? [leaveOut(unused), loadBuiltinsLate] : [leaveOut(unused)],
  });
  const { size } = await stat(outfile);
  if (bytesMax !== undefined && size > bytesMax) {
    throw new Error(`dist/${name}.mjs has ${size} bytes, more than the ${bytesMax} it may have`);
  }
  return `${relative(ROOT, outfile).padEnd(20)} ${String(Math.ceil(size / 1_000)).padStart(5)} KB`;
}

/** `node handlers/build.ts [name…]` makes all bundles, or those named, in `dist/`. */
const wanted = process.argv.slice(2);
const chosen = BUNDLES.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
try {
  await mkdir(DIST, { recursive: true });
  for (const line of await Promise.all(chosen.map(bundle))) console.log(line);
  // The dashboard serves bull-board's pages, which are files.
  await cp(join(ROOT, 'node_modules/@bull-board/ui/dist'), join(DIST, 'bull-board-ui'), { recursive: true });
} catch (error) {
  console.error(`The bundles could not be built: ${(error as Error).message}`);
  process.exitCode = 1;
}
