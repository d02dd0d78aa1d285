import { readdirSync } from 'node:fs';
import { run } from '../exec.ts';
import { NAMESPACE_PREFIX, NAMESPACES, namespaceOf } from './folders.ts';
import { type ClusterNode, HOST_ADDRESS } from './topology.ts';

const COMMAND_MS_MAX = 10_000;
/** The namespace of the bridge: the host's own network gets one link and is otherwise unchanged. */
const SWITCH = 'switch';
const BRIDGE = 'lan';
/** The host's end of the link to the switch. */
const HOST_LINK = 'turnout-cluster';

/** Creates the switch, and the link from the host to it. */
export async function createSwitch(): Promise<void> {
  const namespace = namespaceOf(SWITCH);
  await ip('netns', 'add', namespace);
  await ip('-n', namespace, 'link', 'add', BRIDGE, 'type', 'bridge');
  await ip('-n', namespace, 'link', 'set', BRIDGE, 'up');
  await ip('link', 'add', HOST_LINK, 'type', 'veth', 'peer', 'name', 'host', 'netns', namespace);
  await ip('-n', namespace, 'link', 'set', 'host', 'master', BRIDGE, 'up');
  await ip('addr', 'add', `${HOST_ADDRESS}/24`, 'dev', HOST_LINK);
  await ip('link', 'set', HOST_LINK, 'up');
}

/** Creates the network namespace of a node and connects it to the switch. */
export async function connectNode({ name, address }: ClusterNode): Promise<void> {
  const [namespace, switchNamespace] = [namespaceOf(name), namespaceOf(SWITCH)];
  await ip('netns', 'add', namespace);
  const peer = ['peer', 'name', name, 'netns', switchNamespace];
  await ip('link', 'add', 'eth0', 'netns', namespace, 'type', 'veth', ...peer);
  await ip('-n', switchNamespace, 'link', 'set', name, 'master', BRIDGE, 'up');
  await ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
  await ip('-n', namespace, 'link', 'set', 'lo', 'up');
  await ip('-n', namespace, 'link', 'set', 'eth0', 'up');
  await ip('-n', namespace, 'route', 'add', 'default', 'via', HOST_ADDRESS);
}

/** Disconnects a node from the network, or reconnects it. */
export async function setLink(node: string, state: 'up' | 'down'): Promise<void> {
  await ip('-n', namespaceOf(SWITCH), 'link', 'set', node, state);
}

/** Removes the network of this cluster or of a crashed one. */
export async function removeNetwork(): Promise<void> {
  // Deleting the switch removes the link asynchronously; until then its name would be taken.
  await ip('link', 'delete', HOST_LINK).catch(() => {});
  for (const namespace of namespaces()) await ip('netns', 'delete', namespace);
}

/** Returns the existing network namespaces of clusters. */
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
