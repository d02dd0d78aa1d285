import { inspect } from 'node:util';

const MASK = '[secret]';

/**
 * A value that must not be seen. Every way of turning it into text by accident (templates, JSON, `util.inspect`,
 * and so every log) gives a mask; only `reveal` gives the value, which makes each use easy to find.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}
