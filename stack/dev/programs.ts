import { accessSync, constants, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { StartError } from './errors.ts';
import { run } from './exec.ts';

const INSTALL_MS_MAX = 10 * 60_000;
/** Debian asks this script before it starts a service; 101 means "do not". */
const POLICY = '/usr/sbin/policy-rc.d';

/** The programs that a lab needs, and the Debian packages that have them. */
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

const missingPrograms = (): string[] => Object.keys(PACKAGES).filter((name) => !findProgram(name));

/**
 * Makes sure that this machine can run a lab, and as root on Debian installs what it lacks.
 *
 * @param progress hears what is installed, because that takes a while
 * @throws StartError that says what is missing, and how to get it
 */
export async function requirePrograms(progress: (line: string) => void): Promise<void> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    throw new StartError(
      'a lab needs Linux and root: it makes network namespaces and Docker engines of its own',
    );
  }
  const packages = [...new Set(missingPrograms().map((name) => PACKAGES[name] ?? name))];
  if (packages.length === 0) return;
  if (!findProgram('apt-get')) {
    throw new StartError(
      `a lab needs ${missingPrograms().join(', ')}, and there is no apt-get to install them`,
    );
  }
  progress(`Installing ${packages.join(', ')} from Debian's packages`);
  await installPackages(packages);
  const missing = missingPrograms();
  if (missing.length > 0)
    throw new StartError(`${packages.join(', ')} are installed, but not ${missing.join(', ')}`);
}

/**
 * Installs Debian's packages, and starts none of the services that they bring.
 *
 * @throws StartError when apt-get cannot
 */
export async function installPackages(packages: readonly string[]): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await withoutServices(async () => {
    for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...packages]]) {
      await run({ command: 'apt-get', args }, { what: `apt-get ${args[0]}`, msMax: INSTALL_MS_MAX, env });
    }
  });
}

/** An engine for the whole machine is not what anybody asked for. An administrator's own policy is left as it is. */
async function withoutServices(work: () => Promise<void>): Promise<void> {
  let isOurs = false;
  try {
    writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755, flag: 'wx' });
    isOurs = true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  try {
    await work();
  } finally {
    if (isOurs) rmSync(POLICY, { force: true });
  }
}
