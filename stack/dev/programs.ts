import { forbidServiceStarts, installCommands } from './apt.mjs';
import { StartError } from './errors.ts';
import { run } from './exec.ts';
import { findProgram } from './path.mjs';

const INSTALL_MS_MAX = 10 * 60_000;

/** The programs that `npm run cluster` needs, and their Debian packages. */
const PACKAGES: Readonly<Record<string, string>> = {
  curl: 'curl',
  docker: 'docker.io',
  'docker-init': 'docker.io',
  dockerd: 'docker.io',
  hostname: 'hostname',
  ip: 'iproute2',
  iptables: 'iptables',
  mmdebstrap: 'mmdebstrap',
  nsenter: 'util-linux',
  openssl: 'openssl',
  unshare: 'util-linux',
};

const missingPrograms = (): string[] => Object.keys(PACKAGES).filter((name) => !findProgram(name));

/**
 * Checks that this machine can run a cluster; as root on Debian, installs missing packages.
 *
 * @param progress called with one line before an installation
 * @throws StartError that names what is missing
 */
export async function requirePrograms(progress: (line: string) => void): Promise<void> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    throw new StartError(
      'a cluster needs Linux and root: it creates network namespaces and runs Docker engines in them',
    );
  }
  const packages = [...new Set(missingPrograms().map((name) => PACKAGES[name] ?? name))];
  if (packages.length === 0) return;
  if (!findProgram('apt-get')) {
    throw new StartError(
      `a cluster needs ${missingPrograms().join(', ')}: install them (no apt-get here to do it)`,
    );
  }
  progress(`Installing ${packages.join(', ')} with apt-get`);
  await installPackages(packages);
  const missing = missingPrograms();
  if (missing.length > 0) {
    throw new StartError(
      `apt-get installed ${packages.join(', ')}, but ${missing.join(', ')} is not on the PATH`,
    );
  }
}

/**
 * Installs Debian packages without starting their services.
 *
 * @throws StartError when apt-get fails
 */
export async function installPackages(packages: readonly string[]): Promise<void> {
  const allowServiceStarts = forbidServiceStarts();
  try {
    for (const { env, ...command } of installCommands(packages)) {
      await run(command, { what: `apt-get ${command.args[0]}`, msMax: INSTALL_MS_MAX, env });
    }
  } finally {
    allowServiceStarts();
  }
}
