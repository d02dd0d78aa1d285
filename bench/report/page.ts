import { type Comparison, comparisonTable } from '../compare.ts';
import { judgeGoals, noiseWarning } from '../goals.ts';
import { METRICS, type MetricName } from '../measure/sample.ts';
import { SCENARIOS } from '../scenarios/all.ts';
import { htmlPage, htmlTable } from './html.ts';
import { barChart, escapeHtml, type Line, lineChart } from './plot.ts';
import type { Result } from './result.ts';
import { nodeFlagLines, type Row, resultTable, rowsOf, scenariosOf } from './table.ts';

const PARTS = ['usHandler', 'usRedis', 'usWorker', 'usPostgres'] as const;

/** Returns the report as one self-contained HTML page, light and dark. */
export function renderPage(result: Result, comparisons: readonly Comparison[] = []): string {
  const { samples, commit, isDirty, startedAt, machine, versions, seconds } = result;
  const sections = scenariosOf(samples).map((scenario) => {
    const rows = rowsOf(samples, scenario);
    const title = SCENARIOS.find(({ name }) => name === scenario)?.title ?? '';
    return `<section><h2>${escapeHtml(scenario)}</h2><p>${escapeHtml(title)}</p>
${(PLOTS[scenario]?.(rows, result) ?? []).join('\n')}
${htmlTable(resultTable(rows))}<p>${nodeFlagLines(rows).map(escapeHtml).join('<br>')}</p></section>`;
  });
  const facts = [
    `commit ${commit}${isDirty ? ' with local changes' : ''}`,
    `${startedAt.slice(0, 16).replace('T', ' ')} UTC, ${Math.round(seconds / 60)} minutes`,
    `${machine.processors} × ${machine.cpu}, ${machine.memoryGigabytes} GB, Linux ${machine.kernel}`,
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', '),
  ];
  return htmlPage(
    `Turnout bench, ${commit}`,
    `<h1>What a vote costs</h1>
<p>${facts.map(escapeHtml).join('<br>')}</p>
<p>µs are CPU microseconds per vote by component, in user and kernel mode, as accounted by the kernel. Values are medians of
the rounds; ± is half of their range. “other CPU” is the share of the machine that processes outside the bench used: the
larger it is, the less a rate or a latency means.</p>
<section><h2>goals</h2>${goalsTable(result)}<p>${noiseWarning(samples) ?? ''}</p></section>
${sections.join('\n')}
${comparisons.length === 0 ? '' : `<section><h2>comparison</h2>${htmlTable(comparisonTable(comparisons))}</section>`}`,
  );
}

type Plots = (rows: readonly Row[], result: Result) => string[];

const PLOTS: Readonly<Record<string, Plots>> = {
  capture: (rows) => {
    const most = Math.max(...rows.map(({ params }) => params['connections'] ?? 0));
    return [
      costBars(
        `CPU per vote at ${most} connections (µs)`,
        rows.filter(({ params }) => params['connections'] === most),
      ),
      lineChart(
        'rate',
        { x: 'connections', y: 'votes/s', isXLogarithmic: true },
        lines(rows, 'connections', 'votesPerSecond'),
      ),
      lineChart(
        'latency, p99',
        { x: 'connections', y: 'ms', isXLogarithmic: true },
        lines(rows, 'connections', 'p99Ms'),
      ),
    ];
  },
  drain: (rows) => [
    costBars('CPU per vote (µs)', rows, ({ side, params }) =>
      side === 'turnout' ? `${params['workers']} workers, ${params['nodes']} nodes` : side,
    ),
    valueBars('votes/s', rows, 'votesPerSecond'),
  ],
  memory: (rows) => [
    valueBars('Redis RAM (bytes per waiting vote)', rows, 'redisBytes'),
    valueBars('append-only file as written (bytes per vote)', rows, 'diskBytesPeak'),
  ],
  spike: (_rows, { samples }) =>
    samples
      .filter(({ scenario, series }) => scenario === 'spike' && series !== undefined)
      .flatMap(({ series = {} }) => spikePlots(series)),
  scale: (rows) =>
    ['nodes', 'backlog'].flatMap((param) => {
      const own = rows.filter(({ params }) => params[param] !== undefined);
      const axes = { x: param, y: 'µs', isXLogarithmic: true };
      return own.length < 2
        ? []
        : [lineChart(`CPU per vote by ${param}`, axes, lines(own, param, 'usTotal'))];
    }),
  start: (rows) => [valueBars('exec to the first answer (ms)', rows, 'readyMs')],
};

function spikePlots(series: Readonly<Record<string, readonly number[]>>): string[] {
  const line = (name: string, x: string, y: string): Line => ({
    name,
    points: (series[x] ?? []).map((at, index) => [at, series[y]?.[index] ?? Number.NaN] as const),
  });
  return [
    lineChart('load', { x: 'seconds', y: 'votes/s' }, [
      line('offered', 'seconds', 'offeredPerSecond'),
      line('accepted', 'seconds', 'acceptedPerSecond'),
      line('refused', 'seconds', 'refusedPerSecond'),
    ]),
    lineChart('backlog and count', { x: 'seconds', y: 'votes' }, [
      line('counted', 'queueSeconds', 'counted'),
      line('waiting', 'queueSeconds', 'queued'),
    ]),
    lineChart('latency, from the time due', { x: 'seconds', y: 'ms' }, [
      line('p50', 'seconds', 'p50Ms'),
      line('p99', 'seconds', 'p99Ms'),
    ]),
  ];
}

/** Returns one line per side. */
function lines(rows: readonly Row[], param: string, metric: MetricName): Line[] {
  return [...new Set(rows.map(({ side }) => side))].map((name) => ({
    name,
    points: rows
      .filter(({ side }) => side === name)
      .map(
        ({ params, metrics }) =>
          [params[param] ?? Number.NaN, metrics[metric]?.median ?? Number.NaN] as const,
      )
      .toSorted(([a], [b]) => a - b),
  }));
}

function costBars(
  title: string,
  rows: readonly Row[],
  labelOf: (row: Row) => string = ({ side }) => side,
): string {
  const parts = PARTS.filter((part) => rows.some(({ metrics }) => metrics[part] !== undefined));
  return barChart(
    title,
    parts.map((part) => METRICS[part].label),
    rows.map((row) => ({ label: labelOf(row), values: parts.map((part) => row.metrics[part]?.median ?? 0) })),
  );
}

function valueBars(title: string, rows: readonly Row[], metric: MetricName): string {
  const bars = rows.map(({ side, params, metrics }) => {
    const varied = Object.entries(params).map(([name, value]) => `${value} ${name.replace(/[A-Z].*/, '')}`);
    return { label: [side, ...varied].join(', '), values: [metrics[metric]?.median ?? 0] };
  });
  return barChart(title, [METRICS[metric].label], bars, METRICS[metric].digits);
}

function goalsTable({ samples }: Result): string {
  const mark = { true: 'yes', false: 'no', undefined: '' };
  return htmlTable({
    headings: ['goal', 'limit', 'measured', 'met'],
    textColumns: 1,
    rows: judgeGoals(samples).map(({ goal, limit, measured, isMet }) => [
      goal,
      limit,
      measured,
      mark[`${isMet}`],
    ]),
  });
}
