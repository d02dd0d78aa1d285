import { hash, randomBytes } from 'node:crypto';
import { isIPv6 } from 'node:net';

const WINDOW_MS = 10_000;
/** Each takes two bytes. More addresses than counters share some, so a crowd of a million counts 15 in each. */
const COUNTERS = 65_536;
const COUNT_MAX = 65_535;

/**
 * Returns a function that counts a request of an address and says whether it may proceed: `perWindowMax` may in each
 * window of 10 s, and any number with 0. An IPv6 client is its /64 network.
 *
 * The counters have a fixed size and hold no address. Different addresses that share a counter also share its limit, and
 * the random salt keeps an attacker from choosing such addresses.
 */
export function createRateLimit(
  perWindowMax: number,
  now: () => number = Date.now,
): (address: string) => boolean {
  const counts = new Uint16Array(COUNTERS);
  const salt = randomBytes(16).toString('hex');
  let windowEnd = 0;
  return (address) => {
    if (perWindowMax === 0) return true;
    if (now() >= windowEnd) {
      counts.fill(0);
      windowEnd = now() + WINDOW_MS;
    }
    const index = hash('sha256', salt + networkOf(address), 'buffer').readUInt16LE();
    const count = Math.min((counts[index] ?? 0) + 1, COUNT_MAX);
    counts[index] = count;
    return count <= perWindowMax;
  };
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
