import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { readNodeFlags, startUsage } from '#bench/measure/proc.ts';
import { until } from '#kit/until.ts';

const BURN_MS = 100;
const BURN = `const burnUntil = process.cpuUsage().user + ${BURN_MS} * 1000; while (process.cpuUsage().user < burnUntil);`;
const REPORT =
  "const { user, system } = process.cpuUsage(); process.stdout.write(String(user + system) + '\\n');";
const WAIT_FOR_INPUT = 'process.stdin.resume();';

/** Runs a script that writes its own CPU microseconds as one line, and measures it until then. */
async function measure(script: string): Promise<{ measured: number; reported: number }> {
  const child = spawn(process.execPath, ['-e', `${script} ${WAIT_FOR_INPUT}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const end = startUsage([{ part: 'script', pid: child.pid ?? 0 }]);
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const measured = end().microsByPart['script'] ?? 0;
  const exited = once(child, 'exit');
  child.stdin.end();
  await exited;
  return { measured, reported: Number(line.toString()) };
}

describe.skipIf(process.platform !== 'linux')('the measured CPU time', { concurrent: true }, () => {
  test('of a process equals what the process reports', async () => {
    const { measured, reported } = await measure(`${BURN} ${REPORT}`);
    expect(reported).toBeGreaterThan(BURN_MS * 1_000);
    expect(measured / reported).toBeGreaterThan(0.8);
    expect(measured / reported).toBeLessThan(1.2);
  });

  test('includes children that have exited', async () => {
    const burnInChild = `require('node:child_process').spawnSync(process.execPath, ['-e', ${JSON.stringify(BURN)}]);`;
    const { measured, reported } = await measure(`${burnInChild} ${REPORT}`);
    expect(measured).toBeGreaterThan(reported + BURN_MS * 1_000);
  });

  test('of several processes with the same part is their sum', async () => {
    const children = [1, 2].map(() => spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' }));
    const pids = children.map(({ pid = 0 }) => pid);
    try {
      const endBoth = startUsage(pids.map((pid) => ({ part: 'both', pid })));
      const endEach = pids.map((pid) => startUsage([{ part: 'one', pid }]));
      await until('both have used CPU', () =>
        endEach.every((end) => (end().microsByPart['one'] ?? 0) > 10_000),
      );
      const { microsByPart } = endBoth();
      expect(Object.keys(microsByPart)).toEqual(['both']);
      expect(microsByPart['both']).toBeGreaterThan(2 * 10_000);
    } finally {
      await Promise.all(
        children.map(async (child) => {
          const exited = once(child, 'exit');
          child.kill();
          await exited;
        }),
      );
    }
  });
});

test.skipIf(process.platform !== 'linux')('reads the flags of a Node process', async () => {
  const flags = ['--max-semi-space-size=64', '--no-warnings'];
  const child = spawn(process.execPath, [...flags, import.meta.filename, '--not-a-flag']);
  const exited = once(child, 'exit');
  expect(readNodeFlags(child.pid ?? 0)).toEqual(flags);
  child.kill();
  await exited;
});
