import { join } from 'node:path';

/** Everything of a cluster that is not an image or a container: one place on disk, one that a reboot would empty. */
export interface Folders {
  /** Images, volumes, logs. */
  readonly data: string;
  /** Sockets and pids. Short, because the path of a socket has at most 107 bytes. */
  readonly run: string;
}

export const FOLDERS: Folders = { data: '/var/tmp/turnout-cluster', run: '/run/turnout-cluster' };

/** Where the control groups of all containers are, below each hierarchy of `/sys/fs/cgroup`. */
export const CGROUP = 'turnout-cluster';

/** The network namespaces are `turnout-cluster-<node>`; `ip netns` keeps them here. */
export const NAMESPACE_PREFIX = 'turnout-cluster-';
export const NAMESPACES = '/run/netns';

export const namespaceOf = (node: string): string => `${NAMESPACE_PREFIX}${node}`;
export const namespacePath = (node: string): string => join(NAMESPACES, namespaceOf(node));
