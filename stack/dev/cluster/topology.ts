import { StartError } from '../errors.ts';

/** What a node is for; the label `role` that the services of `stack/turnout.yml` ask for. */
export type Role = 'manager' | 'interlock' | 'frontend' | 'worker' | 'store';

/** A machine of the cluster. */
export interface ClusterNode {
  readonly name: string;
  readonly role: Role;
  readonly address: string;
}

/** The cluster's network, the same as Vagrant's, so that one HOWTO serves both. The host itself is `.1`. */
const NETWORK = '192.168.33';
export const HOST_ADDRESS = `${NETWORK}.1`;
const FRONTENDS_MAX = 100;
const WORKERS_MAX = 50;

const ADDRESSES = { manager: 11, interlock: 12, frontend: 20, worker: 200, store: 250 } as const;

/** The n-th frontend or worker, counted from 1. */
export function numbered(role: 'frontend' | 'worker', n: number): ClusterNode {
  const name = `${role}${String(n).padStart(2, '0')}`;
  return { name, role, address: `${NETWORK}.${ADDRESSES[role] + n - 1}` };
}

/**
 * All machines of a cluster, the manager first.
 *
 * @throws StartError when there is no room for so many
 */
export function nodesOf({ frontends, workers }: { frontends: number; workers: number }): ClusterNode[] {
  requireCount('--frontends', frontends, FRONTENDS_MAX);
  requireCount('--workers', workers, WORKERS_MAX);
  const single = (role: 'manager' | 'interlock' | 'store'): ClusterNode => ({
    name: role,
    role,
    address: `${NETWORK}.${ADDRESSES[role]}`,
  });
  const several = (role: 'frontend' | 'worker', count: number): ClusterNode[] =>
    Array.from({ length: count }, (_, index) => numbered(role, index + 1));
  return [
    single('manager'),
    single('interlock'),
    ...several('frontend', frontends),
    ...several('worker', workers),
    single('store'),
  ];
}

function requireCount(name: string, count: number, max: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= max) return;
  throw new StartError(`${name} must be a whole number from 1 to ${max}`);
}
