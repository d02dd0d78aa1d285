import { type Comparison, comparisonTable } from '../compare.ts';
import { judgeGoals, noiseWarning } from '../goals.ts';
import { METRICS, type MetricName } from '../measure/sample.ts';
import { SCENARIOS } from '../scenarios/all.ts';
import { barChart, escapeHtml, type Line, lineChart } from './plot.ts';
import type { Result } from './result.ts';
import { nodeFlagLines, type Row, resultTable, rowsOf, scenariosOf, type Table } from './table.ts';

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
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Turnout bench, ${escapeHtml(commit)}</title>
<style>${STYLE}</style>
<main><h1>What a vote costs</h1>
<p>${facts.map(escapeHtml).join('<br>')}</p>
<p>µs are CPU microseconds per vote by component, in user and kernel mode, as accounted by the kernel. Values are medians of
the rounds; ± is half of their range. “other CPU” is the share of the machine that processes outside the bench used: the
larger it is, the less a rate or a latency means.</p>
<section><h2>goals</h2>${goalsTable(result)}<p>${noiseWarning(samples) ?? ''}</p></section>
${sections.join('\n')}
${comparisons.length === 0 ? '' : `<section><h2>comparison</h2>${htmlTable(comparisonTable(comparisons))}</section>`}
</main></html>
`;
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

function htmlTable({ headings, rows, textColumns }: Table): string {
  const line = (tag: string, cells: readonly string[]): string =>
    `<tr>${cells.map((cell, column) => `<${tag}${column < textColumns ? ' class="text"' : ''}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  return `<div class="table"><table>${line('th', headings)}${rows.map((row) => line('td', row)).join('\n')}</table></div>`;
}

const STYLE = `
:root { color-scheme: light dark; --text: light-dark(#1d2330, #e6e9f0); --dim: light-dark(#667085, #98a2b3);
  --back: light-dark(#fbfbfd, #14171f); --line: light-dark(#dde1ea, #2b3140);
  --c0: light-dark(#3b5bdb, #748ffc); --c1: light-dark(#e8590c, #ff922b); --c2: light-dark(#2b8a3e, #69db7c);
  --c3: light-dark(#9c36b5, #da77f2); --c4: light-dark(#c92a2a, #ff8787); --c5: light-dark(#0b7285, #3bc9db);
  --c6: light-dark(#5c4813, #e0c46c); --c7: light-dark(#495057, #adb5bd); --c8: light-dark(#a61e4d, #f783ac); }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 900px; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1, h2 { line-height: 1.2; } section { margin-top: 3rem; } p { max-width: 75ch; }
figure { margin: 1.5rem 0; } figcaption { margin-bottom: .4rem; font-weight: 600; }
ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .3rem 0 .8rem; padding: 0; list-style: none; color: var(--dim); }
li i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; background: var(--c); }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--text); dominant-baseline: middle; } svg rect { fill: var(--c); }
svg .label { text-anchor: end; } svg .tick { text-anchor: middle; } svg .label, svg .tick { fill: var(--dim); }
svg .line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; } svg .grid { stroke: var(--line); }
${Array.from({ length: 9 }, (_, index) => `.s${index} { --c: var(--c${index}); }`).join(' ')}
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--dim); font-weight: 500; } th.text, td.text { text-align: left; }
`;
