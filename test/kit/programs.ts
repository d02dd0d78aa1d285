import { StartError } from '#dev/errors.ts';
import { findProgram } from '#dev/path.mjs';
import { installPackages } from '#dev/programs.ts';

/** Programs that some tests need, and their Debian packages. */
const PACKAGES: Readonly<Record<string, string>> = {
  chromium: 'chromium',
  faketime: 'faketime',
  haproxy: 'haproxy',
  ip: 'iproute2',
  iptables: 'iptables',
  jq: 'jq',
  nft: 'nftables',
  openssl: 'openssl',
  psql: 'postgresql-client',
  prometheus: 'prometheus',
  amtool: 'prometheus-alertmanager',
  ruby: 'ruby',
  shellcheck: 'shellcheck',
  strace: 'strace',
  vagrant: 'vagrant',
  zbarimg: 'zbar-tools',
};

/** Turns missing programs into a failure, so that a skipped test cannot be taken for a passed one. */
const IS_STRICT = process.env['TURNOUT_TEST_STRICT'] === '1';

const missingPrograms = (): string[] => Object.keys(PACKAGES).filter((name) => !findProgram(name));

/**
 * Installs missing programs, as root on Debian. Elsewhere prints what is missing; the tests that need it are skipped.
 *
 * With `TURNOUT_TEST_STRICT=1`, exits with 1 if a program is still missing.
 */
export async function installPrograms(): Promise<void> {
  if (missingPrograms().length === 0) return;
  if (process.getuid?.() === 0 && findProgram('apt-get')) await install(missingPrograms());
  const missing = missingPrograms();
  if (missing.length === 0) return;
  console.log(`Not found: ${missing.join(', ')}. Tests that need them are skipped.`);
  if (IS_STRICT) process.exit(1);
}

/** Installs all packages at once or, if that fails, one by one, so that one unavailable package does not block the rest. */
async function install(programs: readonly string[]): Promise<void> {
  const packages = programs.map((name) => PACKAGES[name] ?? name);
  console.log(`Installing ${packages.join(', ')} with apt-get`);
  if (await tryInstall(packages)) return;
  for (const name of packages) await tryInstall([name]);
}

async function tryInstall(packages: readonly string[]): Promise<boolean> {
  try {
    await installPackages(packages);
    return true;
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    console.log([error.message, ...error.details].join('\n'));
    return false;
  }
}
