import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const ROOT = dirname(import.meta.dirname);

/**
 * A unit is a folder (or a single file) with one import rule. The first unit whose path is a prefix of a file's path
 * owns that file, so `workers/job.ts` stands before `workers/`.
 */
interface Unit {
  readonly path: string;
  /** The units it may import besides itself; `all` for every unit but those of `except`. */
  readonly mayImport: readonly string[] | 'all';
  readonly except?: readonly string[];
}

const RUNTIME = 'stack/runtime/';
const JOB = 'workers/job.ts';
const CAPTURED = [JOB, RUNTIME, 'handlers/web/'];

const UNITS: readonly Unit[] = [
  { path: 'handlers/bundling.ts', mayImport: [] },
  { path: 'handlers/licenses.ts', mayImport: ['handlers/bundling.ts'] },
  { path: 'handlers/build.ts', mayImport: ['handlers/bundling.ts', 'handlers/licenses.ts'] },
  { path: 'handlers/web/', mayImport: [] },
  // Generated; the results handler serves it.
  { path: 'handlers/openapi.json', mayImport: [] },
  // Describes the handlers and ships with none of them.
  {
    path: 'handlers/openapi/',
    mayImport: ['handlers/web/', 'handlers/results/', 'handlers/dashboard/', 'db/'],
  },
  { path: 'handlers/vote/', mayImport: CAPTURED },
  { path: 'handlers/results/', mayImport: [...CAPTURED, 'db/', 'handlers/openapi.json'] },
  { path: 'handlers/issuer/', mayImport: [RUNTIME, 'handlers/web/', 'handlers/vote/'] },
  { path: 'handlers/dashboard/', mayImport: [...CAPTURED, 'db/', 'workers/audit/'] },
  { path: JOB, mayImport: [] },
  // `npm run audit` and `npm run polls` never ship, so they share the host tools of `stack/dev/`.
  { path: 'workers/audit/cli/', mayImport: [JOB, 'workers/audit/', 'db/', RUNTIME, 'stack/dev/'] },
  { path: 'workers/audit/', mayImport: [JOB, 'db/', RUNTIME] },
  { path: 'workers/', mayImport: [JOB, 'db/', RUNTIME] },
  { path: 'db/', mayImport: [JOB] },
  { path: RUNTIME, mayImport: [] },
  { path: 'stack/interlock/', mayImport: [RUNTIME] },
  { path: 'stack/dev/start/', mayImport: ['stack/dev/', RUNTIME] },
  { path: 'stack/dev/cluster/', mayImport: ['stack/dev/', RUNTIME] },
  { path: 'stack/dev/', mayImport: [RUNTIME] },
  { path: 'bench/', mayImport: 'all', except: ['test/'] },
  { path: 'test/kit/', mayImport: 'all', except: ['bench/', 'test/'] },
  // The tests of the bench import what they test.
  { path: 'test/unit/bench/', mayImport: 'all' },
  { path: 'test/e2e/bench.test.ts', mayImport: 'all' },
  { path: 'test/', mayImport: 'all', except: ['bench/'] },
];

/** Capabilities that belong to a few files, found by text. Code that never ships (`dev`, `test`, `bench`) is exempt. */
const CAPABILITIES: readonly { readonly text: RegExp; readonly what: string; readonly owner: RegExp }[] = [
  {
    text: /\bprocess\.env\b|from ['"](node:)?process['"]/,
    what: 'reads the environment',
    owner: /^(stack\/runtime\/config\.ts|stack\/dev\/|test\/|bench\/)/,
  },
  {
    text: /\bprocess\.(on|once|addListener|prependListener)\(\s*(['"]SIG|signal)/,
    what: 'handles signals',
    owner: /^(stack\/runtime\/shutdown\.ts|stack\/dev\/|test\/|bench\/)/,
  },
];

/** A source file: its path from the root, the specifiers it imports, and its text. */
export interface Module {
  readonly path: string;
  readonly imports: readonly string[];
  readonly text: string;
}

/** Returns every source file of the project, and the generated one that another imports. */
export function readModules(root = ROOT): Module[] {
  return globSync(['{handlers,workers,db,stack,bench,test}/**/*.{ts,mjs}', 'handlers/openapi.json'], {
    cwd: root,
  })
    .filter((path) => !path.endsWith('.d.mts'))
    .map((path) => {
      const text = readFileSync(join(root, path), 'utf8');
      const specifiers = text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*['"]([.#][^'"]+)['"]/g);
      return { path, imports: [...specifiers].map(([, specifier = '']) => specifier), text };
    });
}

/** Returns one line for each broken rule, and for each unit without a file. */
export function findViolations(modules: readonly Module[], root = ROOT): string[] {
  const resolve = resolver(root);
  const paths = new Set(modules.map(({ path }) => path));
  const violations: string[] = [];
  const edges = new Map<string, Set<string>>();
  for (const { path, imports, text } of modules) {
    const unit = unitOf(path);
    if (!unit) {
      violations.push(`${path}: belongs to no unit in test/imports.ts`);
      continue;
    }
    const imported = edges.get(unit.path) ?? new Set();
    edges.set(unit.path, imported);
    for (const specifier of imports) {
      const target = resolve(path, specifier);
      const other = unitOf(target);
      if (specifier.startsWith('../../'))
        violations.push(`${path}: ${specifier} needs an alias of package.json`);
      if (!other || !paths.has(target))
        violations.push(`${path}: imports ${target}, which is not a source file`);
      else if (other !== unit) {
        imported.add(other.path);
        if (!mayImport(unit, other)) violations.push(`${path}: must not import ${target}`);
      }
    }
    for (const { text: pattern, what, owner } of CAPABILITIES) {
      if (pattern.test(text) && !owner.test(path)) violations.push(`${path}: ${what}`);
    }
  }
  for (const { path } of UNITS) if (!edges.has(path)) violations.push(`${path}: the unit has no file`);
  return [...violations, ...findCycles(edges)];
}

function unitOf(path: string): Unit | undefined {
  return UNITS.find((unit) => path.startsWith(unit.path));
}

function mayImport({ mayImport, except = [] }: Unit, { path }: Unit): boolean {
  return (mayImport === 'all' || mayImport.includes(path)) && !except.includes(path);
}

/** Resolves relative specifiers and the aliases of package.json to paths from the root. */
function resolver(root: string): (from: string, specifier: string) => string {
  const { imports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    imports: Record<string, string>;
  };
  return (from, specifier) => {
    if (specifier.startsWith('.')) return relative(root, join(root, dirname(from), specifier));
    for (const [alias, target] of Object.entries(imports)) {
      const prefix = alias.replace('*', '');
      const rest = specifier.slice(prefix.length);
      if (alias === specifier || (alias.endsWith('*') && specifier.startsWith(prefix))) {
        return target.replace('./', '').replace('*', rest);
      }
    }
    return specifier;
  };
}

/** Returns one line for each unit that reaches itself through other units. */
function findCycles(edges: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const reach = (from: string, seen: Set<string>): Set<string> => {
    for (const next of edges.get(from) ?? []) {
      if (seen.has(next)) continue;
      seen.add(next);
      reach(next, seen);
    }
    return seen;
  };
  return [...edges.keys()]
    .filter((unit) => reach(unit, new Set()).has(unit))
    .map((unit) => `${unit}: imports itself through other folders`);
}
