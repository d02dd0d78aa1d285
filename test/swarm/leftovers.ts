import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';

/** Returns everything of a cluster that is on this machine, by kind. */
export function leftovers(): Record<string, readonly string[]> {
  const processes = globSync('/proc/[0-9]*/cmdline').filter((path) => {
    try {
      return readFileSync(path, 'utf8').includes('/run/turnout-cluster/');
    } catch {
      return false;
    }
  });
  const lines = (text: string): string[] =>
    text.split('\n').filter((line) => line.includes('turnout-cluster'));
  return {
    processes,
    namespaces: lines(execFileSync('ip', ['netns'], { encoding: 'utf8' })),
    links: lines(execFileSync('ip', ['-brief', 'link'], { encoding: 'utf8' })),
    mounts: lines(readFileSync('/proc/mounts', 'utf8')),
    groups: globSync('/sys/fs/cgroup/*/turnout-cluster').concat(globSync('/sys/fs/cgroup/turnout-cluster')),
    files: ['/run/turnout-cluster', '/var/tmp/turnout-cluster'].filter((path) => existsSync(path)),
  };
}

/** The result of `leftovers` when no cluster is left. */
export const NOTHING = { processes: [], namespaces: [], links: [], mounts: [], groups: [], files: [] };
