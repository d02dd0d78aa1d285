import { join } from 'node:path';
import { StartError } from '#dev/errors.ts';
import { ROOT } from '#dev/root.ts';
import { buildAll } from './build.ts';
import { compareResults, comparisonTable } from './compare.ts';
import type { Sample } from './measure/sample.ts';
import { HELP, type Options, parseOptions } from './options.ts';
import { costsOf, newestCosts, saveCosts } from './plan/costs.ts';
import { planFor } from './plan/plan.ts';
import { renderPlan } from './plan/render.ts';
import { renderPage } from './report/page.ts';
import { describeRun, type Result, readResult, writeResult } from './report/result.ts';
import { renderText } from './report/table.ts';
import { Progress, renderGoals, renderScenario } from './report/terminal.ts';
import { SCENARIOS } from './scenarios/all.ts';
import { closeAllTestbeds } from './testbed/testbed.ts';

/** `npm run bench`: measures, prints tables and writes a result with its page, or plans capacity. See `HELP`. */
const RESULTS = join(ROOT, 'bench/results');
const SECONDS_PER_MINUTE = 60;

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void closeAllTestbeds().finally(() => process.exit(130)));
}
try {
  const options = parseOptions(
    process.argv.slice(2),
    SCENARIOS.map(({ name }) => name),
  );
  if (options.command === 'help') console.log(HELP);
  else if (options.command === 'plan') plan(options);
  else await run(options);
} catch (error) {
  console.error(error instanceof StartError ? error.message : error);
  process.exitCode = 1;
}

function plan({ voters, minutes, from, shallSave }: Options & { command: 'plan' }): void {
  const measured = from === undefined ? newestCosts(RESULTS) : costsOf(readResult(from), from);
  if (shallSave) console.log(`Wrote ${saveCosts(measured)}\n`);
  console.log(renderPlan(planFor(voters, minutes * SECONDS_PER_MINUTE, measured.costs), measured));
}

async function run(options: Options & { command: 'run' }): Promise<void> {
  const { scenarios, isQuick, shallBuild, rounds, out = RESULTS, compare } = options;
  // Read first, so that a missing result fails now and not after the run.
  const before = compare === undefined ? undefined : readResult(compare);
  const run = describeRun(new Date(), process.argv.slice(2));
  const progress = new Progress();
  const samples: Sample[] = [];
  if (shallBuild) {
    progress.show('building the bundles and the baselines');
    await buildAll();
  }
  for (const scenario of SCENARIOS) {
    if (scenarios.length > 0 && !scenarios.includes(scenario.name)) continue;
    try {
      await scenario.run({
        isQuick,
        rounds,
        record: (sample) => samples.push(sample),
        progress: (text) => progress.show(`${scenario.name}: ${text}`),
      });
    } catch (error) {
      // The samples recorded so far are still reported.
      console.error(`${scenario.name} failed:`, error);
      process.exitCode = 1;
    }
    progress.clear();
    console.log(renderScenario(scenario, samples));
  }
  const seconds = (Date.now() - Date.parse(run.startedAt)) / 1_000;
  const result: Result = { ...run, seconds, samples };
  const comparisons = before ? compareResults(before.samples, samples) : [];
  if (before) console.log(`\ncompared with ${before.commit}\n\n${renderText(comparisonTable(comparisons))}`);
  console.log(renderGoals(samples));
  const { json, html } = writeResult(result, renderPage(result, comparisons), out);
  console.log(`${json}\n${html}`);
}
