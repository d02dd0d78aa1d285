import { join } from 'node:path';

/** The folders of a cluster on this machine: one on disk, one in memory. */
export interface Folders {
  /** Images, volumes, logs. */
  readonly data: string;
  /** Sockets and pid files. Short, because the path of a unix socket has at most 107 bytes. */
  readonly run: string;
}

export const FOLDERS: Folders = { data: '/var/tmp/turnout-cluster', run: '/run/turnout-cluster' };

/** The parent of all containers' control groups, in each hierarchy of `/sys/fs/cgroup`. */
export const CGROUP = 'turnout-cluster';

/** The network namespace of a node is `turnout-cluster-<node>`; `ip netns` keeps them in this folder. */
export const NAMESPACE_PREFIX = 'turnout-cluster-';
export const NAMESPACES = '/run/netns';

export const namespaceOf = (node: string): string => `${NAMESPACE_PREFIX}${node}`;
export const namespacePath = (node: string): string => join(NAMESPACES, namespaceOf(node));
