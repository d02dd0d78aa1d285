import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createClock, formatMicros } from '#handlers/vote/clock.ts';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { Secret } from '#runtime/secret.ts';

const tokens = createVoterTokens(new Secret('k'.repeat(32)));
const CAST_AT = 1_763_812_345_678_901;

describe('a voter token', () => {
  test('round-trips the voter and the time of the last vote', () => {
    const voter = { ...tokens.mint(), lastCastAt: CAST_AT };
    expect(tokens.verify(tokens.sign(voter))).toEqual(voter);
  });

  test('keeps whether it was issued, and a minted one cannot be changed to issued', () => {
    const voter = { ...tokens.mint(), lastCastAt: CAST_AT };
    expect(voter.isIssued).toBe(false);
    const [minted, issued] = [tokens.sign(voter), tokens.sign({ ...voter, isIssued: true })];
    expect(tokens.verify(issued)).toEqual({ ...voter, isIssued: true });
    const bytes = Buffer.from(minted, 'base64url');
    bytes[0] = Buffer.from(issued, 'base64url').readUInt8();
    expect(tokens.verify(bytes.toString('base64url'))).toBeUndefined();
  });

  test('is minted with a new UUIDv7 each time', () => {
    const [one, other] = [tokens.mint(), tokens.mint()];
    expect(one.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(other.id).not.toBe(one.id);
  });

  test.each([32, 63, 64, 65, 200])('is signed with HMAC-SHA-256 under a key of %i bytes', (bytes) => {
    const key = 'K'.repeat(bytes);
    const signer = createVoterTokens(new Secret(key));
    const token = Buffer.from(signer.sign({ ...signer.mint(), lastCastAt: CAST_AT }), 'base64url');
    const [body, mac] = [token.subarray(0, 25), token.subarray(25)];
    expect(mac).toEqual(createHmac('sha256', key).update(body).digest());
    expect(body.readBigUInt64BE(17)).toBe(BigInt(CAST_AT));
  });

  test('is refused when any character changes', () => {
    const token = tokens.sign({ ...tokens.mint(), lastCastAt: CAST_AT });
    for (let at = 0; at < token.length; at++) {
      const other = token[at] === 'A' ? 'B' : 'A';
      expect(tokens.verify(token.slice(0, at) + other + token.slice(at + 1))).toBeUndefined();
    }
  });

  test('is refused when truncated, extended, empty, or signed with another key', () => {
    const voter = tokens.mint();
    const token = tokens.sign(voter);
    const foreign = createVoterTokens(new Secret('x'.repeat(32))).sign(voter);
    for (const forged of ['', token.slice(0, -1), `${token}A`, foreign, 'A'.repeat(76), '\0'.repeat(76)]) {
      expect(tokens.verify(forged)).toBeUndefined();
    }
  });

  test('stays valid while the key ring rotates, until its key is removed', () => {
    const [before, after] = [new Secret('old '.repeat(8)), new Secret('new '.repeat(8))];
    const voter = { ...tokens.mint(), lastCastAt: CAST_AT };
    const old = createVoterTokens(before).sign(voter);
    const added = createVoterTokens(before, after);
    expect([added.verify(old), added.sign(voter)]).toEqual([voter, old]);
    const promoted = createVoterTokens(after, before);
    const fresh = promoted.sign(voter);
    expect([promoted.verify(old), promoted.verify(fresh), added.verify(fresh)]).toEqual([
      voter,
      voter,
      voter,
    ]);
    expect(fresh).not.toBe(old);
    const removed = createVoterTokens(after);
    expect([removed.verify(old), removed.verify(fresh)]).toEqual([undefined, voter]);
  });

  test('keeps its derived voter id while the key ring rotates, because the last key derives it', () => {
    const [before, after] = [new Secret('old '.repeat(8)), new Secret('new '.repeat(8))];
    const rings = [[before], [before, after, before], [after, before]];
    const ids = rings.map((ring) => createVoterTokens(...ring).derive('login', 'ann'));
    expect(new Set(ids).size).toBe(1);
    expect(createVoterTokens(after).derive('login', 'ann')).not.toBe(ids[0]);
  });

  test('is refused with the id of one voter and the signature of another', () => {
    const [one, other] = [tokens.sign(tokens.mint()), tokens.sign(tokens.mint())];
    expect(tokens.verify(one.slice(0, 34) + other.slice(34))).toBeUndefined();
  });
});

describe('a derived voter id', () => {
  test('is a UUIDv8 of the HMAC over kind and name', () => {
    const mac = createHmac('sha256', 'k'.repeat(32)).update('login\0ann').digest('hex');
    const id = tokens.derive('login', 'ann').replaceAll('-', '');
    expect([id[12], 'ab89'.includes(id[16] ?? 'x')]).toEqual(['8', true]);
    const free = [...Array(32).keys()].filter((digit) => digit !== 12 && digit !== 16);
    expect(free.map((digit) => id[digit])).toEqual(free.map((digit) => mac[digit]));
  });

  test('differs by kind and by name', () => {
    const ids = [
      tokens.derive('login', 'ann'),
      tokens.derive('login', 'bob'),
      tokens.derive('idempotency key', 'ann'),
    ];
    expect(new Set(ids).size).toBe(3);
  });
});

describe('the clock', () => {
  test('strictly increases within a millisecond and when the wall clock steps back', () => {
    let now = 1_000;
    const clock = createClock(() => now);
    expect([clock(0), clock(0)]).toEqual([1_000_000, 1_000_001]);
    now = 500;
    expect(clock(0)).toBe(1_000_002);
    now = 2_000;
    expect(clock(0)).toBe(2_000_000);
  });

  test("is later than the voter's last vote, even when another node's clock was ahead", () => {
    const clock = createClock(() => 1_000);
    expect(clock(9_000_000)).toBeGreaterThan(9_000_000);
    expect(clock(9_000_000)).toBeLessThanOrEqual(9_016_385);
  });

  test.each([0, 1, 60, 240])(
    'of two votes with one token from %i s ahead, the later one has the later time, on any node',
    (seconds) => {
      const token = (1_000 + seconds * 1_000) * 1_000;
      const first = createClock(() => 1_000)(token);
      expect(createClock(() => 1_017)(token)).toBeGreaterThan(first);
      expect(createClock(() => 1_000 + seconds * 1_000 + 17)(token)).toBeGreaterThan(first);
      expect(createClock(() => 1_000 + seconds * 1_000 + 10)(token)).toBeGreaterThanOrEqual(first);
      expect(createClock(() => 400_000)(token)).toBeGreaterThan(first);
    },
  );

  test('exceeds a token of any future', () => {
    expect(createClock(() => 1_000)(9e15)).toBe(9e15 + 1);
  });

  test('is raised by a token for that vote only, and reports a token from the future', () => {
    let reports = 0;
    const clock = createClock(
      () => 1_000,
      () => {
        reports += 1;
      },
    );
    expect(clock(3_600_000_000)).toBe(3_600_000_001);
    expect(reports).toBe(1);
    expect(clock(0)).toBe(1_000_001);
    expect(clock(1_500_000)).toBeGreaterThan(1_500_000);
    expect(reports).toBe(1);
  });

  test('formats all six digits of the fraction', () => {
    expect(formatMicros(CAST_AT)).toBe('2025-11-22T11:52:25.678901Z');
    expect(formatMicros(1_000_001)).toBe('1970-01-01T00:00:01.000001Z');
  });
});
