import { judgeGoals, noiseOf } from '../goals.ts';
import type { Sample } from '../measure/sample.ts';
import type { Scenario } from '../scenarios/scenario.ts';
import { renderText, rowsOf, textTable } from './table.ts';

const CLEAR_LINE = '\r\u001b[K';
const MARKS = { true: 'ok  ', false: 'MISS', undefined: '-   ' };

/** Shows what is being done, on one line that is written over where that is possible. */
export class Progress {
  readonly #isTerminal = process.stdout.isTTY === true;
  readonly #startedAt = performance.now();

  show(text: string): void {
    const seconds = Math.round((performance.now() - this.#startedAt) / 1_000);
    const line = `${String(Math.floor(seconds / 60)).padStart(3)}:${String(seconds % 60).padStart(2, '0')}  ${text}`;
    if (this.#isTerminal) process.stdout.write(`${CLEAR_LINE}${line}`);
    else console.log(line);
  }

  clear(): void {
    if (this.#isTerminal) process.stdout.write(CLEAR_LINE);
  }
}

/** What a scenario has found, as a table. */
export function renderScenario({ name, title }: Scenario, samples: readonly Sample[]): string {
  return `\n${name}: ${title}\n\n${renderText(textTable(rowsOf(samples, name)))}\n`;
}

/** Which goals hold; those that nothing was measured for are left out. */
export function renderGoals(samples: readonly Sample[]): string {
  const rows = judgeGoals(samples)
    .filter(({ holds }) => holds !== undefined)
    .map(({ goal, limit, measured, holds }) => [`${MARKS[`${holds}`]}  ${goal}`, measured, limit]);
  if (rows.length === 0) return '';
  const noise = noiseOf(samples);
  return `\n${renderText({ headings: ['goals', 'measured', 'limit'], rows })}\n${noise === undefined ? '' : `\n${noise}\n`}`;
}
