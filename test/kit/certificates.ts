import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Files of a certificate that a test has made. */
export interface TestCertificate {
  readonly cert: string;
  readonly key: string;
  /** Both in one file. */
  readonly both: string;
}

/** An authority of the test's own. */
export interface TestAuthority {
  readonly cert: string;
  /** @param hosts for which the certificate is good */
  issue(...hosts: string[]): TestCertificate;
}

/** @param folder where all files go */
export function createAuthority(folder: string): TestAuthority {
  const cert = join(folder, 'ca.pem');
  const key = join(folder, 'ca.key');
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { stdio: 'pipe' });
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...newKey, '-keyout', key, '-out', cert, '-subj', '/CN=Test authority');
  return {
    cert,
    issue: (...hosts) => {
      const name = join(folder, hosts[0] ?? 'none');
      const made = { cert: `${name}.pem`, key: `${name}.key`, both: `${name}.both.pem` };
      const names = hosts.map((host) => `DNS:${host}`).join(',');
      const subject = ['-subj', `/CN=${hosts[0]}`, '-addext', `subjectAltName=${names}`];
      openssl(
        'req',
        '-x509',
        '-CA',
        cert,
        '-CAkey',
        key,
        ...newKey,
        '-keyout',
        made.key,
        '-out',
        made.cert,
        ...subject,
        '-addext',
        'basicConstraints=critical,CA:FALSE',
      );
      writeFileSync(made.both, readFileSync(made.cert, 'utf8') + readFileSync(made.key, 'utf8'));
      return made;
    },
  };
}
