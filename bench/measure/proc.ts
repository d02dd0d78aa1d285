import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ is 100 on every architecture of Linux. */
const MICROS_PER_TICK = 10_000;
const NANOS_PER_MICRO = 1_000;

/** CPU time of all processors since boot, in microseconds. */
interface MachineCpu {
  readonly busy: number;
  readonly steal: number;
  readonly total: number;
}

/**
 * Returns the CPU time of a process tree since its start, user and kernel mode of all threads, in microseconds. Children
 * that have exited are included once their parent has waited for them, with the resolution of a tick.
 *
 * @throws ENOENT when the process or `/proc` does not exist
 */
function readCpuMicros(pid: number): number {
  return readTree(pid) + readWaitedForMicros(pid);
}

function readTree(pid: number): number {
  let micros = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${thread}`;
    const [nanos] = readFileSync(`${folder}/schedstat`, 'utf8').split(' ');
    micros += Number(nanos) / NANOS_PER_MICRO;
    for (const child of readFileSync(`${folder}/children`, 'utf8').split(' ').filter(Boolean)) {
      micros += readChild(Number(child));
    }
  }
  return micros;
}

/** A child may exit during the read; its time then belongs to its parent. */
function readChild(pid: number): number {
  try {
    return readTree(pid);
  } catch {
    return 0;
  }
}

function readWaitedForMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The program name is in parentheses and may contain any character; count fields after it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [childrenUser, childrenSystem] = [Number(fields[13]), Number(fields[14])];
  return (childrenUser + childrenSystem) * MICROS_PER_TICK;
}

/** Returns the flags of a Node process, as the kernel has them: the arguments before the script. */
export function readNodeFlags(pid: number): string[] {
  const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(1);
  return args.slice(
    0,
    args.findIndex((arg) => !arg.startsWith('-')),
  );
}

/** Returns the resident set size of a process, in bytes. */
export function readResidentBytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1_024;
}

/** Counts time stolen by the hypervisor as busy, because it was not available. */
function readMachineCpu(): MachineCpu {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = line
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const busy = (user + nice + system + irq + softirq + steal) * MICROS_PER_TICK;
  return { busy, steal: steal * MICROS_PER_TICK, total: busy + (idle + iowait) * MICROS_PER_TICK };
}

/** A process under measurement; `part` is `proxy`, `handler`, `redis`, `postgres` or `worker`. */
export interface Component {
  readonly part: string;
  readonly pid: number;
}

/** Resource usage of a measurement. */
export interface Usage {
  readonly seconds: number;
  /** CPU microseconds by part, summed over its processes. */
  readonly microsByPart: Readonly<Record<string, number>>;
  /** The share of the machine's CPU used by processes outside the bench: noise. */
  readonly othersShare: number;
  /** The share of the machine's CPU that the hypervisor gave to others; part of `othersShare`. */
  readonly stealShare: number;
}

/**
 * Starts measuring and returns a function that returns the usage since then.
 *
 * @param components the processes under measurement
 * @param helpers pids of the bench's own processes, such as the load generator, which count neither as usage nor as noise
 */
export function startUsage(components: readonly Component[], helpers: readonly number[] = []): () => Usage {
  const startedAt = performance.now();
  const machineBefore = readMachineCpu();
  const ownBefore = components.map(({ pid }) => readCpuMicros(pid));
  const helpersBefore = sum(helpers.map(readCpuMicros)) + ownCpuMicros();
  return () => {
    const own = components.map(({ pid }, index) => readCpuMicros(pid) - (ownBefore[index] ?? 0));
    const helping = sum(helpers.map(readCpuMicros)) + ownCpuMicros() - helpersBefore;
    const machine = readMachineCpu();
    const microsByPart: Record<string, number> = {};
    for (const [index, { part }] of components.entries()) {
      microsByPart[part] = (microsByPart[part] ?? 0) + (own[index] ?? 0);
    }
    const others = machine.busy - machineBefore.busy - sum(own) - helping;
    const total = Math.max(1, machine.total - machineBefore.total);
    return {
      seconds: (performance.now() - startedAt) / 1_000,
      microsByPart,
      othersShare: Math.max(0, others) / total,
      stealShare: (machine.steal - machineBefore.steal) / total,
    };
  };
}

function ownCpuMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
