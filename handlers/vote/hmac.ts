import { hash } from 'node:crypto';

const BLOCK_BYTES = 64;
const HASH_BYTES = 32;
const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;

/**
 * Returns a function that computes HMAC-SHA-256 over the current content of `message` and writes its 32 bytes.
 *
 *   HMAC(key, message) = SHA-256((key ^ outer pad) || SHA-256((key ^ inner pad) || message))    (RFC 2104)
 *
 * `createHmac` allocates three native objects for each signature; two one-shot hashes take a third of its time.
 */
export function createHmacSha256(key: Buffer, message: Buffer): (mac: Buffer) => void {
  const blockKey = key.length > BLOCK_BYTES ? hash('sha256', key, 'buffer') : key;
  const inner = Buffer.alloc(BLOCK_BYTES + message.length, INNER_PAD);
  const outer = Buffer.alloc(BLOCK_BYTES + HASH_BYTES, OUTER_PAD);
  for (const [index, byte] of blockKey.entries()) {
    inner[index] = byte ^ INNER_PAD;
    outer[index] = byte ^ OUTER_PAD;
  }
  return (mac) => {
    message.copy(inner, BLOCK_BYTES);
    outer.write(hash('sha256', inner, 'latin1'), BLOCK_BYTES, 'latin1');
    mac.write(hash('sha256', outer, 'latin1'), 'latin1');
  };
}
