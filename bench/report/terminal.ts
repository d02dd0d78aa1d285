import { judgeGoals, noiseWarning } from '../goals.ts';
import type { Sample } from '../measure/sample.ts';
import type { Scenario } from '../scenarios/scenario.ts';
import { nodeFlagLines, renderText, resultTable, rowsOf } from './table.ts';

const CLEAR_LINE = '\r\u001b[K';
const MARKS = { true: 'ok  ', false: 'MISS', undefined: '-   ' };

/** Shows the current step: on one line of a terminal, or as lines of a file. */
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

/** Returns the measurements of a scenario as a table. */
export function renderScenario({ name, title }: Scenario, samples: readonly Sample[]): string {
  const rows = rowsOf(samples, name);
  return ['', `${name}: ${title}`, '', renderText(resultTable(rows)), ...nodeFlagLines(rows), ''].join('\n');
}

/** Returns the goals with a measurement, and a warning if the machine was busy; an empty string if there are none. */
export function renderGoals(samples: readonly Sample[]): string {
  const rows = judgeGoals(samples)
    .filter(({ isMet }) => isMet !== undefined)
    .map(({ goal, limit, measured, isMet }) => [`${MARKS[`${isMet}`]}  ${goal}`, measured, limit]);
  if (rows.length === 0) return '';
  const warning = noiseWarning(samples);
  const table = renderText({ headings: ['goals', 'measured', 'limit'], rows, textColumns: 1 });
  return `\n${table}\n${warning === undefined ? '' : `\n${warning}\n`}`;
}
