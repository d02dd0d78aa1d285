import { createHash, X509Certificate } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** HAProxy takes a certificate over its socket in one buffer of 16 KiB, together with the command. */
const CERTIFICATE_BYTES_MAX = 15_000;
const CERTIFICATES_MAX = 500;
const FILE = /^([A-Za-z0-9][A-Za-z0-9._-]{0,127})\.pem$/;
/** No empty line, which would end the value of a command, and no header, which only an encrypted key has. */
const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----\r?\n(?:[A-Za-z0-9+/=]+\r?\n)+-----END \1-----/g;

/** A certificate that the controller gives to the proxy. */
export interface HeldCertificate {
  /** Chain and key. */
  readonly pem: string;
  /** Hash of `pem`. */
  readonly id: string;
  /** SHA-1 in upper case without colons, as HAProxy shows it; `undefined` if `pem` holds no certificate. */
  readonly fingerprint: string | undefined;
  /** End of its validity, in milliseconds since the epoch; `undefined` likewise. */
  readonly expiresAt: number | undefined;
}

/** Certificates by name, and the reason for each file that is none. */
export interface HeldCertificates {
  readonly certificates: ReadonlyMap<string, HeldCertificate>;
  readonly faults: ReadonlyMap<string, string>;
}

/** Reads the certificates in a folder: files `<name>.pem` with chain and key. Returns none if the folder is missing. */
export async function readCertificates(folder: string): Promise<HeldCertificates> {
  const certificates = new Map<string, HeldCertificate>();
  const faults = new Map<string, string>();
  const files = await readdir(folder).catch(() => []);
  for (const file of files.toSorted()) {
    const name = FILE.exec(file)?.[1];
    if (name === undefined) continue;
    try {
      if (certificates.size >= CERTIFICATES_MAX)
        throw new Error(`more than ${CERTIFICATES_MAX} certificates`);
      certificates.set(name, parseCertificate(await readFile(join(folder, file), 'utf8')));
    } catch (error) {
      faults.set(name, (error as Error).message);
    }
  }
  return { certificates, faults };
}

/** @throws Error if the text has no PEM or is too long; whether certificate and key match is for HAProxy to decide */
export function parseCertificate(text: string): HeldCertificate {
  const blocks = [...text.matchAll(BLOCK)].map(([block]) => block.replaceAll('\r', ''));
  if (blocks.length === 0) throw new Error('it has no certificate and key in PEM');
  const pem = `${blocks.join('\n')}\n`;
  if (pem.length > CERTIFICATE_BYTES_MAX) throw new Error(`it exceeds ${CERTIFICATE_BYTES_MAX} bytes`);
  const leaf = leafOf(pem);
  return {
    pem,
    id: createHash('sha256').update(pem).digest('hex'),
    fingerprint: leaf?.fingerprint.replaceAll(':', ''),
    expiresAt: leaf && Date.parse(leaf.validTo),
  };
}

function leafOf(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}
