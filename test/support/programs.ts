import { findProgram, installPackages } from '../../stack/lab/programs.ts';
import { StartError } from '../../stack/local/errors.ts';

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

export { findProgram };

/**
 * Installs what is missing where that is possible: as root, from Debian's packages. Elsewhere it says what is missing;
 * the tests that need it are then skipped, and say so, or fail.
 */
export async function installPrograms(): Promise<void> {
  const missing = Object.keys(PACKAGES).filter((name) => !findProgram(name));
  if (missing.length === 0) return;
  const names = missing.map((name) => PACKAGES[name] ?? name);
  if (process.getuid?.() !== 0 || !findProgram('apt-get')) {
    console.log(`Some tests cannot run: ${missing.join(', ')} not found`);
    return;
  }
  console.log(`Installing ${names.join(', ')} from Debian's packages`);
  try {
    await installPackages(names);
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    console.log(`Some tests cannot run: ${[error.message, ...error.details].join('\n')}`);
  }
}
