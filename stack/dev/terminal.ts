import { styleText } from 'node:util';
import { ConfigError } from '#runtime/config.ts';
import { StartError } from './errors.ts';

type Style = Parameters<typeof styleText>[0];

/** A destination of lines: standard output, standard error, or a test's buffer. */
export interface Output {
  write(text: string): unknown;
}

/** Styles text for a terminal, or returns it unchanged. */
export type Paint = (style: Style, text: string) => string;

export const plain: Paint = (_style, text) => text;
export const coloured: Paint = (style, text) => styleText(style, text, { validateStream: false });

/** Writes progress, messages and errors in lines that read the same on a terminal and in a file. */
export class Terminal {
  readonly #out: Output;
  readonly #errors: Output;
  readonly paint: Paint;
  /** A step has written its label, but not yet its outcome. */
  #isLineOpen = false;

  constructor(out: Output, errors: Output, paint: Paint) {
    this.#out = out;
    this.#errors = errors;
    this.paint = paint;
  }

  /** Runs `work` behind one line of progress: `label … done (1.2 s)`. */
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

  /** Writes an error to standard error, where it shows even if standard output goes to a file. */
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

/** Returns the message and log lines of an expected error, or the stack of a bug. */
function explain(error: unknown): [message: string, details: readonly string[]] {
  if (error instanceof StartError) return [error.message, error.details];
  if (error instanceof ConfigError) return [error.message, []];
  return [error instanceof Error ? (error.stack ?? error.message) : String(error), []];
}
