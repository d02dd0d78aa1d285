import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from '#dev/root.ts';
import { installPrograms } from '#kit/programs.ts';
import { type ChaosReport, type FaultRow, runChaos } from './run.ts';
import { isClean } from './verdict.ts';

/**
 * `npm run test:chaos -- --faults 100 --seed 1 [--only power] [--people 24] [--outage 20]`
 *
 * Exit 0 when nothing was lost and nothing counted twice, else 1. `--only` takes a part of a fault's name.
 */
const { values } = parseArgs({
  options: {
    faults: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    people: { type: 'string', default: '24' },
    outage: { type: 'string', default: '20' },
    only: { type: 'string', multiple: true, default: [] },
  },
});

await installPrograms();
const built = spawnSync(process.execPath, [join(ROOT, 'handlers/build.ts')], {
  stdio: 'inherit',
});
if (built.status !== 0) process.exit(1);

const seed = Number(values.seed);
console.log(`chaos: ${values.faults} faults, seed ${seed}`);
const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interruption.abort());
const report = await runChaos({
  signal: interruption.signal,
  frontends: 2,
  workers: 2,
  faults: Number(values.faults),
  seed,
  people: Number(values.people),
  outageMs: Number(values.outage) * 1_000,
  only: values.only,
  onProgress: (line) => console.log(line),
}).catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
print(report);
process.exit(isClean(report.verdict) ? 0 : 1);

function print({ rows, obstacles, verdict }: ChaosReport): void {
  const table = [
    ['fault', 'times', 'accepted', 'refused', 'no answer', 'recovered in ms (median, longest)'],
    ...rows.toSorted((a, b) => b.times - a.times).map(cells),
  ];
  const widths =
    table[0]?.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0))) ?? [];
  console.log();
  for (const row of table) {
    console.log(
      row
        .map((cell, column) => (column ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[0] ?? 0)))
        .join('  '),
    );
  }
  for (const obstacle of obstacles) console.log(`not done: ${obstacle}`);
  const { details, ...counts } = verdict;
  console.log();
  for (const [name, count] of Object.entries(counts))
    console.log(`${name.padEnd(16)} ${String(count).padStart(8)}`);
  for (const detail of details) console.log(detail);
}

function cells({ name, times, accepted, refused, unanswered, recoveryMs }: FaultRow): string[] {
  const sorted = recoveryMs.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  const recovery = `${Math.round(median)}, ${Math.round(sorted.at(-1) ?? 0)}`;
  return [name, String(times), String(accepted), String(refused), String(unanswered), recovery];
}
