import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArguments, parseWholeNumber } from '#dev/arguments.ts';
import { StartError } from '#dev/errors.ts';
import { ROOT } from '#dev/root.ts';
import { renderTable } from '#dev/table.ts';
import { plain } from '#dev/terminal.ts';
import { installPrograms } from '#kit/programs.ts';
import { type ChaosReport, type FaultRow, runChaos } from './run.ts';
import { isClean } from './verdict.ts';

const HELP = `Usage: npm run test:chaos -- [options]

Injects faults into a running system while a crowd votes, then checks that every accepted vote was counted exactly once.

  --faults N   number of faults (default 100)
  --seed N     the same seed injects the same faults in the same order (default 1)
  --people N   number of people who vote concurrently (default 24)
  --outage N   seconds that the long outages last (default 20)
  --only TEXT  inject only faults whose name contains TEXT; may be repeated
  --help       show this text

Exit code: 0 if no vote was lost or counted twice, else 1.`;
const options = readOptions();

await installPrograms();
const built = spawnSync(process.execPath, [join(ROOT, 'handlers/build.ts')], {
  stdio: 'inherit',
});
if (built.status !== 0) process.exit(1);

console.log(`chaos: ${options.faults} faults, seed ${options.seed}`);
const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interruption.abort());
const report = await runChaos({
  signal: interruption.signal,
  frontends: 2,
  workers: 2,
  ...options,
  onProgress: (line) => console.log(line),
}).catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
print(report);
process.exit(isClean(report.verdict) ? 0 : 1);

function readOptions() {
  try {
    const { values } = parseArguments(process.argv.slice(2), {
      options: {
        faults: { type: 'string', default: '100' },
        seed: { type: 'string', default: '1' },
        people: { type: 'string', default: '24' },
        outage: { type: 'string', default: '20' },
        only: { type: 'string', multiple: true, default: [] },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(HELP);
      process.exit(0);
    }
    return {
      faults: parseWholeNumber('--faults', values.faults, 1, 1_000_000),
      seed: parseWholeNumber('--seed', values.seed, 0, 2 ** 32 - 1),
      people: parseWholeNumber('--people', values.people, 1, 10_000),
      outageMs: parseWholeNumber('--outage', values.outage, 1, 3_600) * 1_000,
      only: values.only,
    };
  } catch (error) {
    console.error(error instanceof StartError ? error.message : error);
    process.exit(1);
  }
}

function print({ rows, obstacles, finalAfterMs, verdict }: ChaosReport): void {
  const heading = [
    'fault',
    'times',
    'accepted',
    'refused',
    'no response',
    'recovery in ms (median, longest)',
  ];
  const sorted = rows.toSorted((a, b) => b.times - a.times).map(cells);
  console.log(`\n${renderTable(heading, sorted, plain, { rightAlignedFrom: 1 })}`);
  for (const obstacle of obstacles) console.log(`skipped: ${obstacle}`);
  const { details, ...counts } = verdict;
  console.log(
    `\n${finalAfterMs.length} polls became final ${spread(finalAfterMs)} ms (median, longest) after their close\n`,
  );
  for (const [name, count] of Object.entries(counts))
    console.log(`${name.padEnd(16)} ${String(count).padStart(8)}`);
  for (const detail of details) console.log(detail);
}

function cells({ name, times, accepted, refused, unanswered, recoveryMs }: FaultRow): string[] {
  return [name, String(times), String(accepted), String(refused), String(unanswered), spread(recoveryMs)];
}

/** Returns median and maximum. */
function spread(ms: readonly number[]): string {
  const sorted = ms.toSorted((a, b) => a - b);
  return `${Math.round(sorted[Math.floor(sorted.length / 2)] ?? 0)}, ${Math.round(sorted.at(-1) ?? 0)}`;
}
