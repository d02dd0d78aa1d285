import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { startUsage } from '#bench/measure/cpu.ts';
import { until } from '#kit/until.ts';

const BURN_MS = 300;
const BURN = `const burnUntil = process.cpuUsage().user + ${BURN_MS} * 1000; while (process.cpuUsage().user < burnUntil);`;
const REPORT =
  "const { user, system } = process.cpuUsage(); process.stdout.write(String(user + system) + '\\n');";
const WAIT_FOR_INPUT = 'process.stdin.resume();';

/** Runs a script that reports a number of microseconds by a line and then waits until its input ends. */
async function measure(script: string): Promise<{ measured: number; reported: number }> {
  const child = spawn(process.execPath, ['-e', `${script} ${WAIT_FOR_INPUT}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const end = startUsage([{ part: 'script', pid: child.pid ?? 0 }]);
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const measured = end().microsByPart['script'] ?? 0;
  child.stdin.end();
  await once(child, 'exit');
  return { measured, reported: Number(line.toString()) };
}

test.skipIf(process.platform !== 'linux')('the CPU time of a process is what it says itself', async () => {
  const { measured, reported } = await measure(`${BURN} ${REPORT}`);
  expect(reported).toBeGreaterThan(BURN_MS * 1_000);
  expect(measured / reported).toBeGreaterThan(0.8);
  expect(measured / reported).toBeLessThan(1.2);
});

test.skipIf(process.platform !== 'linux')(
  'that of its children counts, also when they have ended',
  async () => {
    const spawned = `require('node:child_process').spawnSync(process.execPath, ['-e', ${JSON.stringify(BURN)}]);`;
    const { measured, reported } = await measure(`${spawned} ${REPORT}`);
    expect(measured).toBeGreaterThan(reported + BURN_MS * 1_000);
  },
);

test.skipIf(process.platform !== 'linux')('several processes play one part together', async () => {
  const children = [1, 2].map(() =>
    spawn(process.execPath, ['-e', WAIT_FOR_INPUT], { stdio: ['pipe', 'ignore', 'inherit'] }),
  );
  try {
    const end = startUsage(children.map(({ pid = 0 }) => ({ part: 'both', pid })));
    // Both start, which takes some time of a processor.
    await until('they have started', () => (end().microsByPart['both'] ?? 0) > 10_000);
    expect(Object.keys(end().microsByPart)).toEqual(['both']);
  } finally {
    for (const child of children) {
      const exited = once(child, 'exit');
      child.kill();
      await exited;
    }
  }
});
