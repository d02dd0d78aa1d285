import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Secret } from '#runtime/secret.ts';

const VOTER_KEY_BYTES = 32;
const PASSWORD_BYTES = 18;
export const DASHBOARD_USER = 'admin';

/** Paths of the secrets. Processes get paths, because `ps` shows arguments and environments. */
export interface Secrets {
  readonly voterKeyFile: string;
  /** `admin:password`. */
  readonly dashboardUsersFile: string;
  readonly databasePassword: Secret;
  /** Written later, by `writeSecret`. */
  readonly databaseUrlFile: string;
}

/** Creates the secrets that are missing; existing ones stay, so that cookies and passwords outlive a restart. */
export function openSecrets(folder: string): Secrets {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const voterKeyFile = join(folder, 'voter.key');
  const dashboardUsersFile = join(folder, 'dashboard.users');
  readOrCreate(voterKeyFile, () => randomBytes(VOTER_KEY_BYTES).toString('hex'));
  readOrCreate(dashboardUsersFile, () => `${DASHBOARD_USER}:${randomPassword()}`);
  return {
    voterKeyFile,
    dashboardUsersFile,
    databasePassword: new Secret(readOrCreate(join(folder, 'database.password'), randomPassword)),
    databaseUrlFile: join(folder, 'database.url'),
  };
}

function readOrCreate(path: string, generate: () => string): string {
  try {
    const existing = readFileSync(path, 'utf8').trim();
    if (existing) return existing;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const value = generate();
  writeSecret(path, value);
  return value;
}

/** Replaces a file atomically; only its owner can read it. */
export function writeSecret(path: string, value: string): void {
  writeFileSync(`${path}.new`, `${value}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function randomPassword(): string {
  return randomBytes(PASSWORD_BYTES).toString('base64url');
}
