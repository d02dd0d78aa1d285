import { createHmac, randomUUIDv7, timingSafeEqual } from 'node:crypto';
import type { Secret } from '../../stack/runtime/secret.ts';

/** Who votes, and the time of the last vote known of them (microseconds since 1970; 0 for none). */
export interface Voter {
  readonly id: string;
  readonly lastCastAt: number;
}

/** Issues and checks voter tokens. */
export interface VoterTokens {
  /** A voter nobody has seen before. */
  mint(): Voter;
  /** The token that proves who the voter is and when they last voted. */
  sign(voter: Voter): string;
  /** The voter in a token; `undefined` when we did not sign it. */
  verify(token: string): Voter | undefined;
}

/*
 * A token is base64url text (76 characters, no padding) of:
 *   1 byte version, 16 bytes UUIDv7, 8 bytes last castAt (big endian), 32 bytes HMAC-SHA-256 over all before it.
 */
const VERSION = 1;
const ID_AT = 1;
const CAST_AT_AT = 17;
const MAC_AT = 25;
const TOKEN_BYTES = 57;
const TOKEN_CHARACTERS = 76;

/**
 * Makes the tokens of one key. All handlers share the key, so a voter may meet any of them.
 *
 * @param key at least 32 bytes, see `VOTER_KEY`
 */
export function createVoterTokens(key: Secret): VoterTokens {
  const macOf = (body: Buffer): Buffer => createHmac('sha256', key.reveal()).update(body).digest();

  return {
    mint: () => ({ id: randomUUIDv7(), lastCastAt: 0 }),

    sign: ({ id, lastCastAt }) => {
      const token = Buffer.allocUnsafe(TOKEN_BYTES);
      token[0] = VERSION;
      token.write(id.replaceAll('-', ''), ID_AT, 'hex');
      token.writeBigUInt64BE(BigInt(lastCastAt), CAST_AT_AT);
      macOf(token.subarray(0, MAC_AT)).copy(token, MAC_AT);
      return token.toString('base64url');
    },

    verify: (text) => {
      if (text.length !== TOKEN_CHARACTERS) return undefined;
      const token = Buffer.from(text, 'base64url');
      if (token.length !== TOKEN_BYTES || token[0] !== VERSION) return undefined;
      if (!timingSafeEqual(macOf(token.subarray(0, MAC_AT)), token.subarray(MAC_AT))) return undefined;
      const hex = token.toString('hex', ID_AT, CAST_AT_AT);
      const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
      return { id, lastCastAt: Number(token.readBigUInt64BE(CAST_AT_AT)) };
    },
  };
}
