import { type Paint, plain } from './terminal.ts';

/** Columns as wide as their widest cell, a rule under the heading, nothing at the ends of lines. */
export function renderTable(
  heading: readonly string[],
  rows: readonly (readonly string[])[],
  paint: Paint = plain,
): string {
  const widths = heading.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const render = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '─'.repeat(width)).join('  ');
  return [paint('bold', render(heading)), paint('dim', rule), ...rows.map(render)].join('\n');
}
