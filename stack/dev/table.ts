import { type Paint, plain } from './terminal.ts';

export interface TableOptions {
  /** The first of the columns that are right-aligned, as numbers are; all columns are left-aligned by default. */
  readonly rightAlignedFrom?: number;
}

/** Renders a text table: a bold heading, a rule, one line per row, without trailing spaces. */
export function renderTable(
  heading: readonly string[],
  rows: readonly (readonly string[])[],
  paint: Paint = plain,
  { rightAlignedFrom = heading.length }: TableOptions = {},
): string {
  const widths = heading.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const pad = (cell: string, column: number): string =>
    column < rightAlignedFrom ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  const render = (cells: readonly string[]) => cells.map(pad).join('  ').trimEnd();
  const rule = widths.map((width) => '─'.repeat(width)).join('  ');
  return [paint('bold', render(heading)), paint('dim', rule), ...rows.map(render)].join('\n');
}
