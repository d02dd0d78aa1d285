import { StartError } from '#dev/errors.ts';
import { findProgram, installPackages } from '#dev/programs.ts';

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

/** Set where a test that is skipped for want of a program would pass for one that has passed. */
const IS_STRICT = process.env['TURNOUT_TEST_STRICT'] === '1';

const missingPrograms = (): string[] => Object.keys(PACKAGES).filter((name) => !findProgram(name));

/**
 * Installs what is missing where that is possible: as root, from Debian's packages. Elsewhere it says what is missing;
 * the tests that need it are then skipped, and say so, or fail. With `TURNOUT_TEST_STRICT=1` nothing may be missing.
 */
export async function installPrograms(): Promise<void> {
  if (missingPrograms().length === 0) return;
  if (process.getuid?.() === 0 && findProgram('apt-get')) await install(missingPrograms());
  const missing = missingPrograms();
  if (missing.length === 0) return;
  console.log(`Some tests cannot run: ${missing.join(', ')} not found`);
  if (IS_STRICT) process.exit(1);
}

/** All at once, and one by one if that fails: one that cannot be had shall not cost us the others. */
async function install(programs: readonly string[]): Promise<void> {
  const names = programs.map((name) => PACKAGES[name] ?? name);
  console.log(`Installing ${names.join(', ')} from Debian's packages`);
  if (await canInstall(names)) return;
  for (const name of names) await canInstall([name]);
}

async function canInstall(names: readonly string[]): Promise<boolean> {
  try {
    await installPackages(names);
    return true;
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    console.log([error.message, ...error.details].join('\n'));
    return false;
  }
}
