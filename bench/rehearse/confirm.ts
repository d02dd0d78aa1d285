import { BlockList, isIP } from 'node:net';
import { StartError } from '#dev/errors.ts';

/** Asks a person; resolves to what was typed. */
export type Ask = (question: string) => Promise<string>;

/** Addresses that need no confirmation: this machine, and the lab of `vagrant/` and `npm run cluster`. */
const HARMLESS = new BlockList();
HARMLESS.addSubnet('127.0.0.0', 8, 'ipv4');
HARMLESS.addAddress('::1', 'ipv6');
HARMLESS.addSubnet('192.168.33.0', 24, 'ipv4');

/** Returns the hosts of targets that a crowd must not hit by mistake. A name may point anywhere, so only `localhost` is harmless. */
export function hostsToConfirm(targets: readonly { readonly host: string }[]): string[] {
  const hosts = targets.map(({ host }) => host).filter((host) => host !== 'localhost' && !isHarmless(host));
  return [...new Set(hosts)];
}

function isHarmless(host: string): boolean {
  const version = isIP(host);
  return version !== 0 && HARMLESS.check(host, version === 6 ? 'ipv6' : 'ipv4');
}

/**
 * Confirms every host: by `--against`, or by a person who is asked twice.
 *
 * @param ask `undefined` when there is no terminal
 * @throws StartError for a host that is not confirmed
 */
export async function confirmHosts(
  hosts: readonly string[],
  against: readonly string[],
  crowd: string,
  ask: Ask | undefined,
): Promise<void> {
  for (const host of hosts.filter((host) => !against.includes(host))) {
    if (!ask)
      throw new StartError(
        `${host} is neither this machine nor the lab: confirm with --against ${host} that ${crowd} may hit it`,
      );
    const typed = await ask(`${crowd} will hit ${host}. Type its name to continue: `);
    if (typed.trim() !== host) throw new StartError(`not confirmed: ${host}`);
    const sure = await ask(`Real voters of ${host} will notice. Type "rehearse" to start: `);
    if (sure.trim() !== 'rehearse') throw new StartError(`not confirmed: ${host}`);
  }
}
