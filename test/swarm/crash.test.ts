import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { until } from '#kit/until.ts';
import { leftovers, NOTHING } from './leftovers.ts';

const CLUSTER = join(ROOT, 'stack/dev/cluster/main.ts');
const START_MS_MAX = 4 * 60_000;

test('removes everything that a killed cluster left running', async () => {
  const cluster = spawn(process.execPath, [CLUSTER, '--frontends', '1'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  cluster.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  try {
    await until('engines join', () => output.includes('more nodes'), START_MS_MAX);
    await until('a second engine runs', () => (leftovers()['namespaces'] ?? []).length >= 3, START_MS_MAX);
  } finally {
    cluster.kill('SIGKILL');
    await once(cluster, 'exit');
  }
  const left = leftovers();
  expect(left['processes']?.length).toBeGreaterThan(0);
  expect(left['files']?.length).toBe(2);

  const cleaned = execFileSync(process.execPath, [CLUSTER, '--clean'], { encoding: 'utf8' });
  expect(cleaned).toContain('The cluster is removed');
  expect(leftovers()).toEqual(NOTHING);
});
