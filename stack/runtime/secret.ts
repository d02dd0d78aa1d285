import { inspect } from 'node:util';

const MASK = '[secret]';

/**
 * A value that must not appear in output. Every implicit conversion to text (templates, JSON, `util.inspect`, and thus every
 * log) gives a mask. Only `reveal` gives the value, so every use is easy to find.
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
