import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const ROOT = dirname(import.meta.dirname);

/** Who may import whom, as ARCHITECTURE.md says. The first rule whose `from` matches a file is the file's rule. */
interface Rule {
  readonly from: RegExp;
  readonly mayImport: readonly RegExp[];
}

const RUNTIME = /^stack\/runtime\//;
const JOB = /^workers\/job\.ts$/;

const RULES: readonly Rule[] = [
  { from: /^handlers\/bundling\.ts$/, mayImport: [] },
  { from: /^handlers\/build\.ts$/, mayImport: [/^handlers\/bundling\.ts$/] },
  { from: /^handlers\/web\//, mayImport: [/^handlers\/web\//] },
  { from: /^handlers\/vote\//, mayImport: [/^handlers\/(vote|web)\//, JOB, RUNTIME] },
  { from: /^handlers\/results\//, mayImport: [/^handlers\/(results|web)\//, JOB, RUNTIME, /^db\//] },
  { from: /^handlers\/dashboard\//, mayImport: [/^handlers\/(dashboard|web)\//, JOB, RUNTIME, /^db\//] },
  { from: JOB, mayImport: [] },
  { from: /^workers\//, mayImport: [/^workers\//, /^db\//, RUNTIME] },
  { from: /^db\//, mayImport: [/^db\//, JOB] },
  { from: RUNTIME, mayImport: [RUNTIME] },
  // The audit is the dashboard's ledger in a terminal.
  {
    from: /^stack\/local\/audit/,
    mayImport: [
      /^stack\/local\//,
      RUNTIME,
      /^db\//,
      JOB,
      /^handlers\/dashboard\/(ledger|queues|settle)\.ts$/,
    ],
  },
  { from: /^stack\/images\//, mayImport: [] },
  { from: /^stack\/lab\//, mayImport: [/^stack\/(lab|local)\//, RUNTIME] },
  { from: /^stack\/interlock\//, mayImport: [/^stack\/interlock\//, RUNTIME] },
  { from: /^stack\/local\//, mayImport: [/^stack\/local\//, RUNTIME] },
  { from: /^(test|bench)\//, mayImport: [/./] },
];

/** Only these may touch what all processes share. */
const PRIVILEGES: readonly { readonly text: RegExp; readonly what: string; readonly who: RegExp }[] = [
  {
    text: /\bprocess\.env\b|from ['"](node:)?process['"]/,
    what: 'reads the environment',
    who: /^(stack\/runtime\/config\.ts|stack\/(lab|local)\/|test\/|bench\/)/,
  },
  {
    text: /\bprocess\.(on|once|addListener|prependListener)\(\s*(['"]SIG|signal)/,
    what: 'handles signals',
    who: /^(stack\/runtime\/shutdown\.ts|stack\/local\/|test\/|bench\/)/,
  },
];

/** A source file: its path from the root, and the paths of the project's own files that it imports. */
export interface Module {
  readonly path: string;
  readonly imports: readonly string[];
  readonly text: string;
}

/** Finds all source files of the project. */
export function readModules(root = ROOT): Module[] {
  return globSync('{handlers,workers,db,stack,bench,test}/**/*.{ts,mjs}', { cwd: root })
    .filter((path) => !path.endsWith('.d.mts'))
    .map((path) => {
      const text = readFileSync(join(root, path), 'utf8');
      const specifiers = text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*['"](\.[^'"]+)['"]/g);
      const imports = [...specifiers].map(([, specifier = '']) =>
        relative(root, join(root, dirname(path), specifier)),
      );
      return { path, imports, text };
    });
}

/** Everything that breaks the rules, a line each; also when there is nothing to look at. */
export function findViolations(modules: readonly Module[]): string[] {
  const violations: string[] = [];
  const used = new Set<Rule>();
  const paths = new Set(modules.map(({ path }) => path));
  for (const { path, imports, text } of modules) {
    const rule = RULES.find(({ from }) => from.test(path));
    if (!rule) {
      violations.push(`${path}: no rule says what it may import`);
      continue;
    }
    used.add(rule);
    for (const imported of imports) {
      if (!paths.has(imported)) violations.push(`${path}: imports ${imported}, which is not a source file`);
      else if (!rule.mayImport.some((allowed) => allowed.test(imported))) {
        violations.push(`${path}: must not import ${imported}`);
      }
    }
    for (const { text: pattern, what, who } of PRIVILEGES) {
      if (pattern.test(text) && !who.test(path)) violations.push(`${path}: ${what}`);
    }
  }
  for (const rule of RULES) {
    if (!used.has(rule)) violations.push(`the rule for ${rule.from} finds no file`);
  }
  return violations;
}
