import { expect, test } from 'vitest';
import { runChaos } from '../chaos/run.ts';
import { isClean } from '../chaos/verdict.ts';

/** Faults with a short recovery; `npm run test:chaos` injects all of them. */
const QUICK = ['kill -9', 'power loss', 'immediate stop', 'breaks', 'disk is full', 'stop a handler'];

test('counts every vote with a 202 once, whatever is killed meanwhile', async () => {
  const lines: string[] = [];
  const { verdict } = await runChaos({
    frontends: 2,
    workers: 2,
    faults: 10,
    seed: 20_270_207,
    people: 12,
    outageMs: 2_000,
    only: QUICK,
    onProgress: (line) => lines.push(line),
  });
  expect(isClean(verdict), `${JSON.stringify(verdict, null, 2)}\n${lines.join('\n')}`).toBe(true);
});
