import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** With its headers it fits into an entry of the proxy's cache (`max-object-size` in `stack/interlock/proxy.cfg`). */
const IMAGE_BYTES_MAX = 48 * 1_024;
/** Of all images of a polls file: handlers keep them in memory. */
export const IMAGES_BYTES_MAX: number = 4 * 1_024 * 1_024;
const DATA_URL = /^data:[^,]*;base64,([a-z0-9+/]*=*)$/i;
/** No folders: a polls file names what lies beside it. */
const FILE_NAME = /^[\w-][\w.-]*$/;

/** Images by name: a hash of the content and its type, like `2c26b46b68ffc68ff99b453c1d304134.webp`. */
export type Images = ReadonlyMap<string, Uint8Array>;

/** Matches the name of an image. */
export const IMAGE_NAME = /^[0-9a-f]{32}\.(?:avif|jpeg|png|webp)$/;

/**
 * Reads an image that a polls file names: a file beside it, or a `data:` URL.
 *
 * @param folder of the polls file
 * @throws Error with what is wrong, as the end of a sentence that begins with the place
 */
export function readImage(
  source: string,
  folder: string,
): { readonly name: string; readonly bytes: Uint8Array } {
  const bytes = bytesOf(source, folder);
  if (bytes.length > IMAGE_BYTES_MAX)
    throw new Error(`has ${bytes.length} bytes, must have at most ${IMAGE_BYTES_MAX}`);
  const type = typeOf(bytes);
  // SVG is not among them: opened by its address, it could run scripts with the voter's cookie.
  if (!type) throw new Error('must be an AVIF, JPEG, PNG or WebP image');
  return { name: `${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}.${type}`, bytes };
}

function bytesOf(source: string, folder: string): Buffer {
  const [, base64] = DATA_URL.exec(source) ?? [];
  if (base64 !== undefined) return Buffer.from(base64, 'base64');
  if (!FILE_NAME.test(source))
    throw new Error('must be the name of a file beside this one, or a data: URL in base64');
  try {
    return readFileSync(join(folder, source));
  } catch (error) {
    throw new Error(`cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

function typeOf(bytes: Buffer): string | undefined {
  const text = (start: number, end: number) => bytes.toString('latin1', start, end);
  if (text(0, 8) === '\x89PNG\r\n\x1a\n') return 'png';
  if (text(0, 3) === '\xff\xd8\xff') return 'jpeg';
  if (text(0, 4) === 'RIFF' && text(8, 12) === 'WEBP') return 'webp';
  if (text(4, 12) === 'ftypavif') return 'avif';
  return undefined;
}
