// Looks up programs on the PATH. Plain JavaScript because bootstrap.mjs imports it; types: path.d.mts.
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** In order of preference. Valkey is protocol-compatible with Redis. */
const REDIS_SERVERS = ['redis-server', 'valkey-server'];

/** Tells the user that `findRedisServer` found nothing, and how to install one. */
export const NO_REDIS_SERVER = `neither ${REDIS_SERVERS.join(' nor ')} is on the PATH (Debian or Ubuntu: apt-get install redis-server; macOS: brew install redis)`;

/**
 * Returns the path of a program, or `undefined` if no folder of the PATH has it.
 *
 * @param {string} name
 * @returns {string | undefined}
 */
export function findProgram(name) {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .filter(Boolean)
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

/**
 * Returns the path of a Redis or Valkey server, or `undefined` if the PATH has neither.
 *
 * @returns {string | undefined}
 */
export function findRedisServer() {
  return REDIS_SERVERS.map(findProgram).find(Boolean);
}

/**
 * Whether this process may execute a file.
 *
 * @param {string} path
 */
export function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
