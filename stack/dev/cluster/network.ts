import { readdirSync } from 'node:fs';
import { run } from '../exec.ts';
import { NAMESPACE_PREFIX, NAMESPACES, namespaceOf } from './folders.ts';
import { type ClusterNode, HOST_ADDRESS } from './topology.ts';

const COMMAND_MS_MAX = 10_000;
/** A bridge in a namespace of its own: the host keeps its network as it is, but for one link. */
const SWITCH = 'switch';
const BRIDGE = 'lan';
/** Our end of the link between the host and the switch. */
const HOST_LINK = 'turnout-cluster';

/** Makes the switch, and the link by which this machine reaches the nodes. */
export async function makeSwitch(): Promise<void> {
  const namespace = namespaceOf(SWITCH);
  await ip('netns', 'add', namespace);
  await ip('-n', namespace, 'link', 'add', BRIDGE, 'type', 'bridge');
  await ip('-n', namespace, 'link', 'set', BRIDGE, 'up');
  await ip('link', 'add', HOST_LINK, 'type', 'veth', 'peer', 'name', 'host', 'netns', namespace);
  await ip('-n', namespace, 'link', 'set', 'host', 'master', BRIDGE, 'up');
  await ip('addr', 'add', `${HOST_ADDRESS}/24`, 'dev', HOST_LINK);
  await ip('link', 'set', HOST_LINK, 'up');
}

/** Makes a namespace for a node and plugs it into the switch. */
export async function plugIn({ name, address }: ClusterNode): Promise<void> {
  const [namespace, hub] = [namespaceOf(name), namespaceOf(SWITCH)];
  await ip('netns', 'add', namespace);
  await ip('link', 'add', 'eth0', 'netns', namespace, 'type', 'veth', 'peer', 'name', name, 'netns', hub);
  await ip('-n', hub, 'link', 'set', name, 'master', BRIDGE, 'up');
  await ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
  await ip('-n', namespace, 'link', 'set', 'lo', 'up');
  await ip('-n', namespace, 'link', 'set', 'eth0', 'up');
  await ip('-n', namespace, 'route', 'add', 'default', 'via', HOST_ADDRESS);
}

/** Pulls a node's cable, or puts it back. */
export async function setLink(node: string, state: 'up' | 'down'): Promise<void> {
  await ip('-n', namespaceOf(SWITCH), 'link', 'set', node, state);
}

/** Removes what is there of a cluster's network, also of one whose cluster crashed. */
export async function removeNetwork(): Promise<void> {
  // The link would go with the switch, but a little later; a new cluster could find the name taken.
  await ip('link', 'delete', HOST_LINK).catch(() => {});
  for (const namespace of namespaces()) await ip('netns', 'delete', namespace);
}

/** The network namespaces of clusters that are there now. */
export function namespaces(): string[] {
  try {
    return readdirSync(NAMESPACES).filter((name) => name.startsWith(NAMESPACE_PREFIX));
  } catch {
    return [];
  }
}

async function ip(...args: string[]): Promise<void> {
  await run({ command: 'ip', args }, { what: `ip ${args.join(' ')}`, msMax: COMMAND_MS_MAX });
}
