import { BenchError } from '../errors.ts';
import type { MetricName, Sample } from '../measure/sample.ts';
import { findRow } from '../report/table.ts';
import type { Costs } from './plan.ts';

/**
 * Takes the costs from the samples of a run, at the most connections that it measured.
 *
 * @throws BenchError when the run has not measured all that a plan needs
 */
export function costsFrom(samples: readonly Sample[]): Costs {
  const connections = Math.max(
    ...samples
      .filter(({ scenario }) => scenario === 'capture')
      .map(({ params }) => params['connections'] ?? 0),
  );
  const find = (scenario: string, side: string, name: MetricName, params: Record<string, number>): number => {
    const value = findRow(samples, scenario, side, params)?.metrics[name]?.median;
    if (value === undefined)
      throw new BenchError(`the result has no ${name} of "${side}" in ${scenario}: run it first`);
    return value;
  };
  const drained = { workers: 1, nodes: 1 };
  return {
    // The load sends forms without a token; a page's visitor has one, and it costs what it costs a returning voter.
    usFormVote:
      find('capture', 'turnout, browser form', 'usTotal', { connections }) +
      Math.max(
        0,
        find('capture', 'turnout, returning voters', 'usTotal', { connections }) -
          find('capture', 'turnout', 'usTotal', { connections }),
      ),
    usPage: find('capture', 'turnout, page only', 'usHandler', { connections }),
    usRedis:
      find('capture', 'turnout, browser form', 'usRedis', { connections }) +
      find('drain', 'turnout', 'usRedis', drained),
    usWorker: find('drain', 'turnout', 'usWorker', drained),
    usPostgres: find('drain', 'turnout', 'usPostgres', drained),
    redisBytes: find('memory', 'turnout', 'redisBytes', { votesPerJob: 50 }),
    diskBytes: find('memory', 'turnout', 'diskBytesPeak', { votesPerJob: 50 }),
  };
}
