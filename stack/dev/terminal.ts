import { styleText } from 'node:util';
import { ConfigError } from '#runtime/config.ts';
import { StartError } from './errors.ts';

type Style = Parameters<typeof styleText>[0];

/** Where lines go: standard output, standard error, or a test's. */
export interface Output {
  write(text: string): unknown;
}

/** Makes text stand out, or leaves it as it is. */
export type Paint = (style: Style, text: string) => string;

export const plain: Paint = (_style, text) => text;
export const coloured: Paint = (style, text) => styleText(style, text, { validateStream: false });

/** Tells people what happens, in lines that read the same on a terminal and in a file. */
export class Terminal {
  readonly #out: Output;
  readonly #errors: Output;
  readonly paint: Paint;
  /** A step has begun a line and not ended it. */
  #isLineOpen = false;

  constructor(out: Output, errors: Output, paint: Paint) {
    this.#out = out;
    this.#errors = errors;
    this.paint = paint;
  }

  /** One line for one step: `label … done (1.2 s)`. */
  async step<T>(label: string, work: () => T | Promise<T>): Promise<T> {
    const startedAt = performance.now();
    this.#closeLine();
    this.#out.write(`${label} … `);
    this.#isLineOpen = true;
    try {
      const result = await work();
      this.#endStep(label, this.paint('green', 'done'), startedAt);
      return result;
    } catch (error) {
      const isInterrupted = (error as Error).name === 'AbortError';
      this.#endStep(label, isInterrupted ? 'interrupted' : this.paint('red', 'failed'), startedAt);
      throw error;
    }
  }

  #endStep(label: string, outcome: string, startedAt: number): void {
    if (!this.#isLineOpen) this.#out.write(`${label} … `);
    this.#isLineOpen = false;
    this.#out.write(`${outcome} (${((performance.now() - startedAt) / 1_000).toFixed(1)} s)\n`);
  }

  line(text = ''): void {
    this.#closeLine();
    this.#out.write(`${text}\n`);
  }

  /** What an operator has to see even when standard output goes to a file. */
  error(error: unknown): void {
    this.#closeLine();
    const [message, details] = explain(error);
    this.#errors.write(`${this.paint('red', message)}\n`);
    for (const detail of details) this.#errors.write(`  ${detail}\n`);
  }

  #closeLine(): void {
    if (this.#isLineOpen) this.#out.write('\n');
    this.#isLineOpen = false;
  }
}

/** An error that we foresaw is one line, and what a log said about it; any other is a bug, and its stack helps. */
function explain(error: unknown): [message: string, details: readonly string[]] {
  if (error instanceof StartError) return [error.message, error.details];
  if (error instanceof ConfigError) return [error.message, []];
  return [error instanceof Error ? (error.stack ?? error.message) : String(error), []];
}
