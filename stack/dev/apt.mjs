// Installs Debian packages. Plain JavaScript because bootstrap.mjs imports it; types: apt.d.mts.
import { rmSync, writeFileSync } from 'node:fs';

/** `invoke-rc.d` runs this script before it starts a service; exit code 101 forbids the start. */
const POLICY_FILE = '/usr/sbin/policy-rc.d';
const POLICY = '#!/bin/sh\nexit 101\n';

/**
 * Returns the apt-get commands that install packages, to be run one after the other.
 *
 * @param {readonly string[]} packages
 */
export function installCommands(packages) {
  // In runlevel 1 no service starts, even where the administrator's policy allows it.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  return [['update'], ['install', '-y', '--no-install-recommends', ...packages]].map((args) => ({
    command: 'apt-get',
    args,
    env,
  }));
}

/**
 * Prevents packages from starting their services, until the returned function is called or this process exits.
 * An existing policy of the administrator stays in place.
 *
 * @returns {() => void}
 */
export function forbidServiceStarts() {
  try {
    writeFileSync(POLICY_FILE, POLICY, { mode: 0o755, flag: 'wx' });
  } catch (error) {
    if (error.code === 'EEXIST') return () => {};
    throw error;
  }
  const allow = () => {
    process.off('exit', allow);
    rmSync(POLICY_FILE, { force: true });
  };
  process.once('exit', allow);
  return allow;
}
