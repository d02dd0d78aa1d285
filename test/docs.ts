import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { ROOT } from '#dev/root.ts';

/** What documents may refer to. */
export interface Project {
  /** All files that git tracks, from the root: a reader of a clone has no others. */
  readonly files: readonly string[];
  /** The scripts of package.json. */
  readonly scripts: readonly string[];
  /** The text of a file that is linked with an anchor. */
  readonly read: (path: string) => string;
}

const TOP_LEVEL = /^(?:\.ci|aws|bench|db|handlers|stack|test|vagrant|workers)\//;
/** Made by commands, so absent from the repository. */
const GENERATED = /^(?:dist|node_modules|\.turnout|bench\/results)(?:\/|$)/;
/** npm's own commands. */
const NPM_COMMANDS = new Set(['ci', 'install']);
const LINK = /\[[^\]]*\]\(([^)\s]+)\)/g;
const CODE = /`([^`]+)`/g;
/** A script, and the words after it up to the end of the command. */
const SCRIPT = /(?<![\w.<>*{}/-])([\w./-]+\.sh)(?![\w/*])((?: (?!#)[^\s`|;&),'"]+)*)/g;
const NPM = /\bnpm (run )?([a-z][\w:-]*)((?: (?!#)[^\s`|;&]+)*)/g;

/** Returns the repository as git tracks it. */
export function readProject(root = ROOT): Project {
  const files = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' });
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: object };
  return {
    files: files.split('\n').filter((path) => path && existsSync(join(root, path))),
    scripts: Object.keys(scripts),
    read: (path) => readFileSync(join(root, path), 'utf8'),
  };
}

/** Returns one line for each link, path or npm command of a Markdown text that leads nowhere. */
export function findBrokenReferences(path: string, text: string, project: Project): string[] {
  const faults: string[] = [];
  let isFenced = false;
  for (const [index, line] of text.split('\n').entries()) {
    const report = (what: string): void => void faults.push(`${path}:${index + 1}: ${what}`);
    if (line.startsWith('```')) isFenced = !isFenced;
    if (isFenced) {
      checkCommands(line, project, report);
      checkScripts(line, project, report);
      continue;
    }
    for (const [, target = ''] of line.matchAll(LINK)) checkLink(target, path, project, report);
    for (const [, code = ''] of line.matchAll(CODE)) {
      checkPath(code, project, report);
      checkCommands(code, project, report);
      checkScripts(code, project, report);
    }
  }
  return faults;
}

type Report = (what: string) => void;

function checkLink(target: string, from: string, project: Project, report: Report): void {
  if (/^[a-z]+:/.test(target)) return;
  const [file = '', anchor] = target.split('#');
  const path = file === '' ? from : normalize(join(dirname(from), file));
  if (!isThere(path, project)) report(`the link ${target} leads nowhere`);
  else if (anchor !== undefined && !anchorsOf(project.read(path)).has(anchor)) {
    report(`${path} has no heading #${anchor}`);
  }
}

/** The anchors that GitHub gives to headings. */
function anchorsOf(text: string): Set<string> {
  const headings = text.matchAll(/^#+ (.*)$/gm);
  return new Set(
    [...headings].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

/** Code that looks like a path of the repository; `*` and `<name>` match any part, `{a,b}` either. */
function checkPath(code: string, project: Project, report: Report): void {
  const path = code.replace(/(?::\d+)?$/, '');
  if (!TOP_LEVEL.test(path) || /\s/.test(path) || GENERATED.test(path)) return;
  if (!isThere(path, project)) report(`there is no ${code}`);
}

function isThere(path: string, { files }: Project): boolean {
  const wanted = path.replace(/\/$/, '');
  const pattern = wanted
    .replaceAll(/[.+^$()|[\]\\]/g, '\\$&')
    .replaceAll(/\{([^}]*)\}/g, (_, names: string) => `(?:${names.replaceAll(',', '|')})`)
    .replaceAll('**', '.+')
    .replaceAll(/(?<!\.)\*|<[^>]+>|…/g, '[^/]*');
  const matches = new RegExp(`^${pattern}(?:/|$)`);
  return wanted === '.' || files.some((file) => matches.test(file));
}

function checkCommands(code: string, project: Project, report: Report): void {
  for (const [, run, script = '', rest = ''] of code.matchAll(NPM)) {
    if (run === undefined && NPM_COMMANDS.has(script)) continue;
    if (!project.scripts.includes(script)) report(`npm has no script ${script}`);
    if (script !== 'test' || !rest.startsWith(' -- ')) continue;
    for (const filter of filtersOf(rest.slice(' -- '.length).split(' '))) {
      const isFound = project.files.some((file) => file.endsWith('.test.ts') && file.includes(filter));
      if (!isFound) report(`npm test -- ${filter} matches no test file`);
    }
  }
}

/** Scripts exist, and know the subcommand and the options that follow. */
function checkScripts(code: string, project: Project, report: Report): void {
  for (const [, name = '', rest = ''] of code.matchAll(SCRIPT)) {
    // Several folders have a script of this name; on a machine, the project has a folder of its own.
    const paths = project.files.filter(
      (file) => file === name || file.endsWith(`/${name}`) || name.endsWith(`/${file}`),
    );
    if (paths.length === 0) report(`there is no script ${name}`);
    const scripts = paths.map((path) => project.read(path));
    const [first = '', ...others] = rest.trim().split(' ');
    // A usage like `certificate.sh NAME` has no subcommands.
    const hasNameFirst = scripts.some((script) =>
      / [A-Z]/.test(script.split(`# ${basename(name)}`)[1]?.slice(0, 2) ?? ''),
    );
    const words = [
      ...(first.startsWith('--') || (/^[a-z]+$/.test(first) && !hasNameFirst) ? [first] : []),
      ...others.filter((other) => other.startsWith('--')),
    ];
    const unknown = words.find((word) => !scripts.some((script) => script.includes(word)));
    if (paths.length > 0 && unknown !== undefined) report(`${paths.join()} has no ${unknown}`);
  }
}

/** The path filters among the arguments of vitest. */
function filtersOf(args: readonly string[]): string[] {
  return args.filter((arg, index) => !arg.startsWith('-') && !/^(--project|-t)$/.test(args[index - 1] ?? ''));
}
