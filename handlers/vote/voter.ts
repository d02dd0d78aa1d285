import { hash, randomUUIDv7, timingSafeEqual } from 'node:crypto';
import type { Secret } from '#runtime/secret.ts';

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
const TWO_TO_32 = 2 ** 32;

/**
 * Makes the tokens of one key. All handlers share the key, so a voter may meet any of them.
 *
 * Both functions work in the same few buffers, which is safe because neither ever waits: a vote takes one or two
 * tokens, and buffers made for each would cost it more than the signatures do.
 *
 * @param key at least 32 bytes, see `VOTER_KEY`
 */
export function createVoterTokens(key: Secret): VoterTokens {
  const token = Buffer.alloc(TOKEN_BYTES);
  const body = token.subarray(0, MAC_AT);
  const mac = token.subarray(MAC_AT);
  const expectedMac = Buffer.alloc(TOKEN_BYTES - MAC_AT);
  const writeMac = createHmacSha256(Buffer.from(key.reveal()), body);

  return {
    mint: () => ({ id: randomUUIDv7(), lastCastAt: 0 }),

    sign: ({ id, lastCastAt }) => {
      token[0] = VERSION;
      token.write(id.replaceAll('-', ''), ID_AT, 'hex');
      token.writeUInt32BE(Math.floor(lastCastAt / TWO_TO_32), CAST_AT_AT);
      token.writeUInt32BE(lastCastAt % TWO_TO_32, CAST_AT_AT + 4);
      writeMac(mac);
      return token.toString('base64url');
    },

    verify: (text) => {
      if (text.length !== TOKEN_CHARACTERS) return undefined;
      if (token.write(text, 'base64url') !== TOKEN_BYTES || token[0] !== VERSION) return undefined;
      writeMac(expectedMac);
      if (!timingSafeEqual(expectedMac, mac)) return undefined;
      const hex = token.toString('hex', ID_AT, CAST_AT_AT);
      const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
      const lastCastAt = token.readUInt32BE(CAST_AT_AT) * TWO_TO_32 + token.readUInt32BE(CAST_AT_AT + 4);
      return { id, lastCastAt };
    },
  };
}

const HASH_BLOCK_BYTES = 64;
const HASH_BYTES = 32;

/**
 * HMAC-SHA-256 of whatever is in `message` at the time, as RFC 2104 puts it together from two hashes. Node's own
 * `createHmac` makes three objects in native memory for each signature; two one-shot hashes take a third of its time.
 *
 * @returns writes the 32 bytes of the signature into a buffer
 */
function createHmacSha256(key: Buffer, message: Buffer): (mac: Buffer) => void {
  const blockKey = key.length > HASH_BLOCK_BYTES ? hash('sha256', key, 'buffer') : key;
  const inner = Buffer.alloc(HASH_BLOCK_BYTES + message.length, 0x36);
  const outer = Buffer.alloc(HASH_BLOCK_BYTES + HASH_BYTES, 0x5c);
  for (const [at, byte] of blockKey.entries()) {
    inner[at] = byte ^ 0x36;
    outer[at] = byte ^ 0x5c;
  }
  return (mac) => {
    message.copy(inner, HASH_BLOCK_BYTES);
    outer.write(hash('sha256', inner, 'latin1'), HASH_BLOCK_BYTES, 'latin1');
    mac.write(hash('sha256', outer, 'latin1'), 'latin1');
  };
}
