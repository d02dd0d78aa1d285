/** A machine type for rent. */
export interface Instance {
  readonly name: string;
  readonly vcpus: number;
  readonly memoryGigabytes: number;
  readonly dollarsPerHour: number;
}

/**
 * AWS, us-east-1, Linux, on demand; Graviton 3, one vCPU is one core. Sizes from
 * https://docs.aws.amazon.com/ec2/latest/instancetypes/co.md and gp.md, prices from
 * https://aws.amazon.com/ec2/pricing/on-demand/ as of June 2026. Prices change: check them before you rent.
 */
export const FRONTEND_INSTANCES: readonly Instance[] = [
  { name: 'c7g.large', vcpus: 2, memoryGigabytes: 4, dollarsPerHour: 0.0725 },
  { name: 'c7g.xlarge', vcpus: 4, memoryGigabytes: 8, dollarsPerHour: 0.145 },
  { name: 'c7g.2xlarge', vcpus: 8, memoryGigabytes: 16, dollarsPerHour: 0.29 },
  { name: 'c7g.4xlarge', vcpus: 16, memoryGigabytes: 32, dollarsPerHour: 0.58 },
];

export const WORKER_INSTANCE: Instance = {
  name: 'c7g.large',
  vcpus: 2,
  memoryGigabytes: 4,
  dollarsPerHour: 0.0725,
};

export const POSTGRES_INSTANCES: readonly Instance[] = [
  { name: 'm7g.large', vcpus: 2, memoryGigabytes: 8, dollarsPerHour: 0.0816 },
  { name: 'm7g.xlarge', vcpus: 4, memoryGigabytes: 16, dollarsPerHour: 0.1632 },
  { name: 'm7g.2xlarge', vcpus: 8, memoryGigabytes: 32, dollarsPerHour: 0.3264 },
  { name: 'm7g.4xlarge', vcpus: 16, memoryGigabytes: 64, dollarsPerHour: 0.6528 },
];
