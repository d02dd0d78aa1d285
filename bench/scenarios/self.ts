import { median } from '#kit/quantile.ts';
import { readNodeFlags } from '../measure/proc.ts';
import { costPerVote } from '../measure/vote-cost.ts';
import { Testbed, type TestbedServer } from '../testbed/testbed.ts';
import { latencyMetrics, runLoad, SLICE_SECONDS, WARM_UP_SECONDS } from './capture.ts';
import { interleave, type Scenario } from './scenario.ts';

const CONNECTIONS = 256;
const SLICES_PER_ROUND = 6;
const CALIBRATION_SLICES = 5;
/** The cost added to one side, relative to the others. */
const ADDED_COST = 0.05;

/**
 * The instrument of `capture` measured with itself: two processes of the same program must cost the same, and one that computes
 * for 5 % longer must cost 5 % more.
 */
export const self: Scenario = {
  name: 'self',
  title: `the same empty handler twice, and once with ${ADDED_COST * 100} % more to do`,
  run: async (bench) => {
    await Testbed.use(async (testbed) => {
      const load = testbed.startLoadProcess();
      const run = ({ port, component }: TestbedServer, seconds: number) =>
        runLoad(load, [component], { targets: [{ port }], kind: 'first', connections: CONNECTIONS, seconds });

      const one = await testbed.startBaseline('empty', {});
      await run(one, WARM_UP_SECONDS);
      const costs: number[] = [];
      for (let slice = 0; slice < CALIBRATION_SLICES; slice += 1) {
        const { result, usage } = await run(one, SLICE_SECONDS);
        costs.push(costPerVote(usage, result.accepted).usTotal ?? Number.NaN);
      }
      const sides = [
        { name: 'empty', server: one },
        { name: 'empty again', server: await testbed.startBaseline('empty', {}) },
        {
          name: 'empty and busy',
          server: await testbed.startBaseline('empty-and-busy', {
            BUSY_US: String(median(costs) * ADDED_COST),
          }),
        },
      ];
      for (const { server } of sides) await run(server, WARM_UP_SECONDS);
      const slices = bench.rounds * SLICES_PER_ROUND;
      for (const { round, side } of interleave(sides, slices)) {
        bench.progress(`slice ${round} of ${slices}: ${side.name}`);
        const { result, usage } = await run(side.server, SLICE_SECONDS);
        bench.record({
          scenario: 'self',
          side: side.name,
          round,
          params: { connections: CONNECTIONS },
          passesThrough: 'Hono',
          nodeFlags: readNodeFlags(side.server.component.pid),
          metrics: { ...latencyMetrics(result), ...costPerVote(usage, result.accepted) },
        });
      }
    });
  },
};
