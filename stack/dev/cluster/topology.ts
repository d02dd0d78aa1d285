import assert from 'node:assert';

/** What a node is for: its label `role`, which the placement constraints of `stack/turnout.yml` name. */
export type Role = 'manager' | 'interlock' | 'frontend' | 'worker' | 'store';

/** A node of the cluster. */
export interface ClusterNode {
  readonly name: string;
  readonly role: Role;
  readonly address: string;
}

/** The cluster's network, a /24; the same as Vagrant's, so that the same instructions serve both. */
const NETWORK = '192.168.33';
export const HOST_ADDRESS = `${NETWORK}.1`;
export const FRONTENDS_MAX = 100;
export const WORKERS_MAX = 50;

/** The last byte of each role's first address. */
const FIRST_ADDRESS = { manager: 11, interlock: 12, frontend: 20, worker: 200, store: 250 } as const;
assert(FIRST_ADDRESS.frontend + FRONTENDS_MAX <= FIRST_ADDRESS.worker, 'frontends and workers overlap');
assert(FIRST_ADDRESS.worker + WORKERS_MAX <= FIRST_ADDRESS.store, 'workers and the store overlap');

/** Returns the n-th frontend or worker, counted from 1. */
export function numbered(role: 'frontend' | 'worker', n: number): ClusterNode {
  const name = `${role}${String(n).padStart(2, '0')}`;
  return { name, role, address: `${NETWORK}.${FIRST_ADDRESS[role] + n - 1}` };
}

/** Returns all nodes of a cluster, the manager first. */
export function nodesOf(counts: { frontends: number; workers: number }): ClusterNode[] {
  const single = (role: 'manager' | 'interlock' | 'store'): ClusterNode => ({
    name: role,
    role,
    address: `${NETWORK}.${FIRST_ADDRESS[role]}`,
  });
  const several = (role: 'frontend' | 'worker', count: number): ClusterNode[] =>
    Array.from({ length: count }, (_, index) => numbered(role, index + 1));
  return [
    single('manager'),
    single('interlock'),
    ...several('frontend', counts.frontends),
    ...several('worker', counts.workers),
    single('store'),
  ];
}
