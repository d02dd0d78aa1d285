import { hash, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIPv6 } from 'node:net';
import type { Context } from 'hono';

/** Each takes two bytes. More addresses than counters share some, so a crowd of a million counts 15 in each. */
const COUNTERS = 65_536;
const COUNT_MAX = 65_535;

export interface RateLimitOptions {
  /** What an address may do in each window; 0 means any number. */
  readonly perWindowMax: number;
  readonly windowMs: number;
  readonly now?: () => number;
}

/**
 * Counts what addresses do in each window. An IPv6 client is its /64 network.
 *
 * The counters have a fixed size and hold no address. Different addresses that share a counter also share its limit, and
 * the random salt keeps an attacker from choosing such addresses.
 */
export class RateLimit {
  readonly #options: RateLimitOptions;
  readonly #counts = new Uint16Array(COUNTERS);
  readonly #salt = randomBytes(16).toString('hex');
  #windowEnd = 0;

  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /** Counts one of an address, and returns whether it is within the limit. */
  count(address: string): boolean {
    const index = this.#indexOf(address);
    const count = Math.min((this.#counts[index] ?? 0) + 1, COUNT_MAX);
    this.#counts[index] = count;
    return this.#isUnlimited || count <= this.#options.perWindowMax;
  }

  /** Whether an address has done all it may in this window. */
  isReached(address: string): boolean {
    return !this.#isUnlimited && (this.#counts[this.#indexOf(address)] ?? 0) >= this.#options.perWindowMax;
  }

  get #isUnlimited(): boolean {
    return this.#options.perWindowMax === 0;
  }

  #indexOf(address: string): number {
    const { windowMs, now = Date.now } = this.#options;
    if (now() >= this.#windowEnd) {
      this.#counts.fill(0);
      this.#windowEnd = now() + windowMs;
    }
    return hash('sha256', this.#salt + networkOf(address), 'buffer').readUInt16LE();
  }
}

/** Returns the client's address: the proxy replaces `X-Forwarded-For`; without a proxy it is the connection's. */
export function addressOf(c: Context): string {
  const incoming = (c.env as { readonly incoming?: IncomingMessage } | undefined)?.incoming;
  return c.req.header('x-forwarded-for') ?? incoming?.socket.remoteAddress ?? '';
}

/** Returns the first four groups of an IPv6 address, and an IPv4 address as it is. */
function networkOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
  if (!isIPv6(plain)) return plain;
  const [head = '', tail] = plain.split('::', 2);
  const groups = (text: string): string[] => text.split(':').filter(Boolean);
  const zeros = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length;
  return [...groups(head), ...Array<string>(Math.max(zeros, 0)).fill('0'), ...groups(tail ?? '')]
    .slice(0, 4)
    .join(':');
}
