import { createHmac, createSecretKey, randomUUIDv7, timingSafeEqual } from 'node:crypto';
import type { Secret } from '#runtime/secret.ts';
import { createHmacSha256 } from './hmac.ts';

/** The voter of a token. */
export interface Voter {
  /** A UUID: version 7 of a new voter, version 8 of a derived one. */
  readonly id: string;
  /** The time of the voter's last vote in microseconds since 1970; 0 before the first. */
  readonly lastCastAt: number;
  /** Whether the issuer admitted the voter. All later tokens of the voter keep this. */
  readonly isIssued: boolean;
}

/** What a voter id is derived from: the idempotency key of a vote, or a login at an identity provider. */
type VoterNameKind = 'idempotency key' | 'login';

/** Signs and verifies voter tokens. */
export interface VoterTokens {
  /** Returns a new voter, not issued. */
  mint(): Voter;
  /** Returns the voter id that belongs to a name, the same in every process with the same last key of the ring. */
  derive(kind: VoterNameKind, name: string): string;
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
 *   │ kind    │ voter id   │ last castAt │ HMAC-SHA-256 over │
 *   │ (1, 2)  │ (a UUID)   │ (µs, u64be) │ bytes 0 to 24     │
 *   └─────────┴────────────┴─────────────┴───────────────────┘
 *
 * The kind is signed, so a token that was minted for a first vote never passes for an issued one.
 */
const MINTED = 1;
const ISSUED = 2;
const ID_OFFSET = 1;
const CAST_AT_OFFSET = 17;
const MAC_OFFSET = 25;
const TOKEN_BYTES = 57;
const TOKEN_CHARACTERS = 76;
const TWO_TO_32 = 2 ** 32;

/**
 * Creates signer and verifier of tokens for a key ring: the first key signs, all verify, and the last one derives voter ids
 * from names. All handlers share the ring, so any of them can verify a voter. To rotate, deploy `old,new,old`, then
 * `new,old`, and drop the old key once its cookies have expired and no open poll has voters with derived ids.
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
  const lastKey = keys.at(-1);
  if (!writeMac || !lastKey) throw new RangeError('a key ring has at least one key');
  const derivingKey = createSecretKey(lastKey.reveal(), 'utf8');

  return {
    mint: () => ({ id: randomUUIDv7(), lastCastAt: 0, isIssued: false }),

    // Begins with a letter, and what tokens sign with a byte of 1 or 2: neither HMAC can stand in for the other.
    derive: (kind, name) => {
      const mac = createHmac('sha256', derivingKey).update(`${kind}\0${name}`).digest();
      // RFC 9562 leaves all but version and variant of a UUIDv8 to the application.
      mac.writeUInt8((mac.readUInt8(6) & 0x0f) | 0x80, 6);
      mac.writeUInt8((mac.readUInt8(8) & 0x3f) | 0x80, 8);
      return formatUuid(mac.toString('hex', 0, 16));
    },

    sign: ({ id, lastCastAt, isIssued }) => {
      token[0] = isIssued ? ISSUED : MINTED;
      token.write(id.replaceAll('-', ''), ID_OFFSET, 'hex');
      token.writeUInt32BE(Math.floor(lastCastAt / TWO_TO_32), CAST_AT_OFFSET);
      token.writeUInt32BE(lastCastAt % TWO_TO_32, CAST_AT_OFFSET + 4);
      writeMac(mac);
      return token.toString('base64url');
    },

    verify: (text) => {
      if (text.length !== TOKEN_CHARACTERS) return undefined;
      if (token.write(text, 'base64url') !== TOKEN_BYTES) return undefined;
      const kind = token[0];
      if (kind !== MINTED && kind !== ISSUED) return undefined;
      const isSigned = macWriters.some((writeExpected) => {
        writeExpected(expectedMac);
        return timingSafeEqual(expectedMac, mac);
      });
      if (!isSigned) return undefined;
      const id = formatUuid(token.toString('hex', ID_OFFSET, CAST_AT_OFFSET));
      const lastCastAt =
        token.readUInt32BE(CAST_AT_OFFSET) * TWO_TO_32 + token.readUInt32BE(CAST_AT_OFFSET + 4);
      return { id, lastCastAt, isIssued: kind === ISSUED };
    },
  };
}

function formatUuid(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
