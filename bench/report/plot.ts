import { formatNumber } from './table.ts';

/*
 * Two kinds of plots, as SVG text. A series has the class `s0`, `s1`, …; the page defines the colours, light and dark.
 */

const WIDTH = 860;
const LABEL_WIDTH = 230;
const VALUE_WIDTH = 90;
const BAR_HEIGHT = 20;
const BAR_GAP = 8;
const LINE_HEIGHT = 260;
const AXIS_LEFT = 70;
const AXIS_BOTTOM = 40;
const TICKS = 5;

export interface Bar {
  readonly label: string;
  /** One value for each series, stacked. */
  readonly values: readonly number[];
}

/** Returns horizontal bars, each a stack of series followed by its total. */
export function barChart(title: string, series: readonly string[], bars: readonly Bar[], digits = 1): string {
  const totals = bars.map(({ values }) => values.reduce((sum, value) => sum + value, 0));
  const span = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
  const scale = span / Math.max(...totals, Number.MIN_VALUE);
  const rows = bars.map(({ label, values }, row) => {
    const y = row * (BAR_HEIGHT + BAR_GAP);
    let x = LABEL_WIDTH;
    const parts = values.map((value, index) => {
      const width = value * scale;
      const rect = `<rect class="s${index}" x="${round(x)}" y="${y}" width="${round(width)}" height="${BAR_HEIGHT}"><title>${escapeHtml(
        `${label}, ${series[index] ?? ''}: ${formatNumber(value, digits)}`,
      )}</title></rect>`;
      x += width;
      return rect;
    });
    const middle = y + BAR_HEIGHT / 2;
    return `<text class="label" x="${LABEL_WIDTH - 8}" y="${middle}">${escapeHtml(label)}</text>${parts.join('')}<text class="value" x="${round(x + 6)}" y="${middle}">${formatNumber(totals[row], digits)}</text>`;
  });
  return figure(title, series, bars.length * (BAR_HEIGHT + BAR_GAP), rows.join('\n'));
}

export interface Line {
  readonly name: string;
  /** Sorted by x; points whose y is NaN are left out. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Axes {
  readonly x: string;
  readonly y: string;
  readonly isXLogarithmic?: boolean;
}

/** Returns lines over a common x axis, with y from 0; an empty string when there is no point. */
export function lineChart(
  title: string,
  { x: xName, y: yName, isXLogarithmic = false }: Axes,
  lines: readonly Line[],
): string {
  const points = lines.flatMap((line) => line.points).filter(([, y]) => Number.isFinite(y));
  if (points.length === 0) return '';
  const place = (x: number): number => (isXLogarithmic ? Math.log10(x) : x);
  const [xMin, xMax] = [
    Math.min(...points.map(([x]) => place(x))),
    Math.max(...points.map(([x]) => place(x))),
  ];
  const yMax = niceAbove(Math.max(...points.map(([, y]) => y)));
  const toX = (x: number): number =>
    AXIS_LEFT + ((place(x) - xMin) / Math.max(xMax - xMin, Number.MIN_VALUE)) * (WIDTH - AXIS_LEFT - 20);
  const toY = (y: number): number => 8 + (1 - y / yMax) * (LINE_HEIGHT - AXIS_BOTTOM - 8);
  const grid = Array.from({ length: TICKS + 1 }, (_, tick) => {
    const value = (yMax * tick) / TICKS;
    const y = round(toY(value));
    return `<line class="grid" x1="${AXIS_LEFT}" x2="${WIDTH - 20}" y1="${y}" y2="${y}"/><text class="label" x="${AXIS_LEFT - 8}" y="${y}">${formatNumber(value, yMax < 10 ? 1 : 0)}</text>`;
  });
  const marks = xTicks(
    points.map(([x]) => x),
    isXLogarithmic,
  ).map(
    (x) =>
      `<text class="tick" x="${round(toX(x))}" y="${LINE_HEIGHT - AXIS_BOTTOM + 16}">${formatNumber(x, 0)}</text>`,
  );
  const drawn = lines.map(({ points: own }, index) => {
    const path = own
      .filter(([, y]) => Number.isFinite(y))
      .map(([x, y], at) => `${at === 0 ? 'M' : 'L'}${round(toX(x))} ${round(toY(y))}`)
      .join('');
    return `<path class="line s${index}" d="${path}"/>`;
  });
  const names = `<text class="tick" x="${WIDTH / 2}" y="${LINE_HEIGHT - 6}">${escapeHtml(xName)}</text>`;
  const body = [...grid, ...marks, ...drawn, names].join('\n');
  return figure(
    `${title} (${yName})`,
    lines.map(({ name }) => name),
    LINE_HEIGHT,
    body,
  );
}

function xTicks(xs: readonly number[], isLogarithmic: boolean): number[] {
  const distinct = [...new Set(xs)].toSorted((a, b) => a - b);
  if (isLogarithmic || distinct.length <= 10) return distinct;
  const last = distinct.at(-1) ?? 0;
  const step = niceAbove(last / TICKS);
  return Array.from({ length: Math.floor(last / step) + 1 }, (_, tick) => tick * step);
}

/** Returns the next of 1, 2, 5, 10, 20, 50, … */
function niceAbove(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5].find((step) => step * power >= value) ?? 10) * power;
}

function figure(title: string, series: readonly string[], height: number, body: string): string {
  const key =
    series.length < 2
      ? ''
      : `<ul>${series.map((name, index) => `<li><i class="s${index}"></i>${escapeHtml(name)}</li>`).join('')}</ul>`;
  return `<figure><figcaption>${escapeHtml(title)}</figcaption>${key}
<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escapeHtml(title)}">
${body}
</svg></figure>`;
}

export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
