import type { ResultView } from './view.ts';

const COLUMNS = ['poll', 'question', 'choice', 'label', 'votes', 'status', 'as_of'];

/** The results of a poll as a table (RFC 4180): a line with the names, then a line for each choice. */
export function toCsv({ poll, question, choices, status, asOf }: ResultView): string {
  const lines = choices.map(({ id, label, votes }) => [poll, question, id, label, votes, status, asOf]);
  return [COLUMNS, ...lines].map((cells) => `${cells.map(cellOf).join(',')}\r\n`).join('');
}

function cellOf(value: string | number): string {
  if (typeof value === 'number') return String(value);
  const text = isFormula(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A spreadsheet would run such a text, and a label is whatever somebody wrote into the polls file. */
function isFormula(text: string): boolean {
  return /^[=+\-@\t\r]/.test(text);
}
