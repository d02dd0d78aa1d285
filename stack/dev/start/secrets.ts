import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Secret } from '#runtime/secret.ts';

const VOTER_KEY_BYTES = 32;
const PASSWORD_BYTES = 18;
export const DASHBOARD_USER = 'admin';

/** Where the secrets are. Processes get the paths, so that no list of processes shows a secret. */
export interface Secrets {
  readonly voterKeyFile: string;
  /** `admin:password`. */
  readonly dashboardUsersFile: string;
  readonly databasePassword: Secret;
  /** Written by `writeSecret` once the URL is known. */
  readonly databaseUrlFile: string;
}

/** Makes what is missing and reads what is there: a voter's cookie, and the operator's password, outlive a restart. */
export function keepSecrets(folder: string): Secrets {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const voterKeyFile = join(folder, 'voter.key');
  const dashboardUsersFile = join(folder, 'dashboard.users');
  keep(voterKeyFile, () => randomBytes(VOTER_KEY_BYTES).toString('hex'));
  keep(dashboardUsersFile, () => `${DASHBOARD_USER}:${password()}`);
  return {
    voterKeyFile,
    dashboardUsersFile,
    databasePassword: new Secret(keep(join(folder, 'database.password'), password)),
    databaseUrlFile: join(folder, 'database.url'),
  };
}

function keep(path: string, make: () => string): string {
  try {
    const known = readFileSync(path, 'utf8').trim();
    if (known) return known;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const made = make();
  writeSecret(path, made);
  return made;
}

/** Writes a file that only its owner can read, all of it or nothing. */
export function writeSecret(path: string, value: string): void {
  writeFileSync(`${path}.new`, `${value}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function password(): string {
  return randomBytes(PASSWORD_BYTES).toString('base64url');
}
