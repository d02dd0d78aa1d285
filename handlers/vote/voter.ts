import { randomUUIDv7, timingSafeEqual } from 'node:crypto';
import type { Secret } from '#runtime/secret.ts';
import { createHmacSha256 } from './hmac.ts';

/** A voter's id and the time of their last vote in microseconds since 1970; 0 before the first. */
export interface Voter {
  readonly id: string;
  readonly lastCastAt: number;
}

/** Issues and verifies voter tokens. */
export interface VoterTokens {
  /** Returns a new voter. */
  mint(): Voter;
  /** Returns the token of a voter. */
  sign(voter: Voter): string;
  /** Returns the voter of a token; `undefined` unless its signature is valid. */
  verify(token: string): Voter | undefined;
}

/*
 * A token is unpadded base64url (76 characters) of 57 bytes:
 *
 *    0       1            17            25                  57
 *   ┌─────────┬────────────┬─────────────┬───────────────────┐
 *   │ version │ UUIDv7     │ last castAt │ HMAC-SHA-256 over │
 *   │ (1)     │            │ (µs, u64be) │ bytes 0 to 24     │
 *   └─────────┴────────────┴─────────────┴───────────────────┘
 */
const VERSION = 1;
const ID_OFFSET = 1;
const CAST_AT_OFFSET = 17;
const MAC_OFFSET = 25;
const TOKEN_BYTES = 57;
const TOKEN_CHARACTERS = 76;
const TWO_TO_32 = 2 ** 32;

/**
 * Creates issuer and verifier of tokens for a key ring: the first key signs, all of them verify. All handlers share the ring, so any of them can
 * verify a voter. To rotate, add the new key behind the old one on every handler, then put it first, and remove the old key
 * once its cookies have expired.
 *
 * `sign` and `verify` are synchronous and share their buffers: allocating them for each token costs more than signing.
 *
 * @param keys at least 32 bytes each, see `VOTER_KEY`
 */
export function createVoterTokens(...keys: readonly Secret[]): VoterTokens {
  const token = Buffer.alloc(TOKEN_BYTES);
  const body = token.subarray(0, MAC_OFFSET);
  const mac = token.subarray(MAC_OFFSET);
  const expectedMac = Buffer.alloc(TOKEN_BYTES - MAC_OFFSET);
  const macWriters = keys.map((key) => createHmacSha256(Buffer.from(key.reveal()), body));
  const [writeMac] = macWriters;
  if (!writeMac) throw new RangeError('a key ring has at least one key');

  return {
    mint: () => ({ id: randomUUIDv7(), lastCastAt: 0 }),

    sign: ({ id, lastCastAt }) => {
      token[0] = VERSION;
      token.write(id.replaceAll('-', ''), ID_OFFSET, 'hex');
      token.writeUInt32BE(Math.floor(lastCastAt / TWO_TO_32), CAST_AT_OFFSET);
      token.writeUInt32BE(lastCastAt % TWO_TO_32, CAST_AT_OFFSET + 4);
      writeMac(mac);
      return token.toString('base64url');
    },

    verify: (text) => {
      if (text.length !== TOKEN_CHARACTERS) return undefined;
      if (token.write(text, 'base64url') !== TOKEN_BYTES || token[0] !== VERSION) return undefined;
      const isSigned = macWriters.some((writeExpected) => {
        writeExpected(expectedMac);
        return timingSafeEqual(expectedMac, mac);
      });
      if (!isSigned) return undefined;
      const hex = token.toString('hex', ID_OFFSET, CAST_AT_OFFSET);
      const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
      const lastCastAt =
        token.readUInt32BE(CAST_AT_OFFSET) * TWO_TO_32 + token.readUInt32BE(CAST_AT_OFFSET + 4);
      return { id, lastCastAt };
    },
  };
}
