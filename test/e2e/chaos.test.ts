import { expect, test } from 'vitest';
import { runChaos } from '../chaos/run.ts';
import { isClean } from '../chaos/verdict.ts';

/** The faults that are over quickly; `npm run test:chaos` makes all of them, many times. */
const QUICK = [
  'kill -9',
  'power loss',
  'immediate stop',
  'lose each other',
  'disk is full',
  'stop a handler',
];

test('whatever is killed while people vote, every 202 is counted once', async () => {
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
