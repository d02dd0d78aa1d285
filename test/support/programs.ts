import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Programs that some tests need, and the Debian packages that have them. */
const PACKAGES: Readonly<Record<string, string>> = {
  chromium: 'chromium',
  haproxy: 'haproxy',
  jq: 'jq',
  openssl: 'openssl',
  ruby: 'ruby',
  shellcheck: 'shellcheck',
  strace: 'strace',
  vagrant: 'vagrant',
};

/** Where a program is on the PATH; `undefined` when it is not. */
export function findProgram(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter(Boolean);
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/**
 * Installs what is missing where that is possible: as root, from Debian's packages. Elsewhere it says what is missing;
 * the tests that need it are then skipped, and say so.
 */
export function installPrograms(): void {
  const missing = Object.keys(PACKAGES).filter((name) => !findProgram(name));
  if (missing.length === 0) return;
  const names = missing.map((name) => PACKAGES[name] ?? name);
  if (process.getuid?.() !== 0 || !findProgram('apt-get')) {
    console.log(`Some tests will be skipped: ${missing.join(', ')} not found`);
    return;
  }
  console.log(`Installing ${names.join(', ')} from Debian's packages`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...names]]) {
    const { status, stderr } = spawnSync('apt-get', args, { env, encoding: 'utf8' });
    if (status === 0) continue;
    console.log(`Some tests will be skipped: apt-get ${args[0]} failed\n${stderr}`);
    return;
  }
}
