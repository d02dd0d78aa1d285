import type { ResultView } from './view.ts';

const COLUMNS = [
  ...['poll', 'question', 'choice', 'label', 'votes'],
  ...['status', 'final_at', 'written_off', 'as_of'],
];

/** Returns the results of a poll as CSV (RFC 4180): a header line, then a line per choice. */
export function toCsv(view: ResultView): string {
  const { poll, question, choices, status, finalAt = '', writtenOff = [], writtenOffJobs = [], asOf } = view;
  const excluded = [
    ...writtenOff.map(({ name, reason }) => `${name}: ${reason}`),
    ...writtenOffJobs.map(({ jobs, reason }) => `${jobs.join(' ')}: ${reason}`),
  ].join('; ');
  const lines = choices.map(({ id, label, votes }) => [
    ...[poll, question, id, label, votes],
    ...[status, finalAt, excluded, asOf],
  ]);
  return [COLUMNS, ...lines].map((cells) => `${cells.map(cellOf).join(',')}\r\n`).join('');
}

function cellOf(value: string | number): string {
  if (typeof value === 'number') return String(value);
  const text = isFormula(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A spreadsheet would execute such a text; labels come from the polls file. */
function isFormula(text: string): boolean {
  return /^[=+\-@\t\r]/.test(text);
}
