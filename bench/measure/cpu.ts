import { readdirSync, readFileSync } from 'node:fs';

/** Linux counts ticks of `stat` a hundred times a second, on every architecture. */
const MICROS_PER_TICK = 10_000;
const NANOS_PER_MICRO = 1_000;

/** What all processors of the machine did since it started, in microseconds. */
interface MachineCpu {
  readonly busy: number;
  readonly total: number;
}

/**
 * CPU microseconds that a process has used so far, in user and kernel mode, with all its threads and children.
 * Children that it has waited for are included, to the tick; whatever else has ended is not.
 *
 * @throws ENOENT when there is no such process, or no `/proc`
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

/** A child may end between two looks; its parent then has its time. */
function readChild(pid: number): number {
  try {
    return readTree(pid);
  } catch {
    return 0;
  }
}

function readWaitedForMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The program's name stands in brackets and may hold anything; fields are counted from behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [childrenUser, childrenSystem] = [Number(fields[13]), Number(fields[14])];
  return (childrenUser + childrenSystem) * MICROS_PER_TICK;
}

/** The memory of a process that is in RAM, in bytes. */
export function readResidentBytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1_024;
}

/** Time stolen by the hypervisor counts as busy: we did not get it. */
function readMachineCpu(): MachineCpu {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = line
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const busy = (user + nice + system + irq + softirq + steal) * MICROS_PER_TICK;
  return { busy, total: busy + (idle + iowait) * MICROS_PER_TICK };
}

/** A process under measurement, by the part it plays: `handler`, `redis`, `postgres`, `worker`. */
export interface Component {
  readonly part: string;
  readonly pid: number;
}

/** What a piece of work cost. */
export interface Usage {
  readonly seconds: number;
  /** CPU microseconds by part, over all processes that play it. */
  readonly microsByPart: Readonly<Record<string, number>>;
  /** The share of the machine that went to processes which are none of ours: noise. */
  readonly othersShare: number;
}

/**
 * Starts measuring; the function it gives ends it and can be called once.
 *
 * @param components what is measured
 * @param helpers pids of ours that are not under measurement, such as the load's
 */
export function startUsage(components: readonly Component[], helpers: readonly number[] = []): () => Usage {
  const startedAt = performance.now();
  const machineBefore = readMachineCpu();
  const ownBefore = components.map(({ pid }) => readCpuMicros(pid));
  const helpersBefore = sum(helpers.map(readCpuMicros)) + ourselves();
  return () => {
    const own = components.map(({ pid }, index) => readCpuMicros(pid) - (ownBefore[index] ?? 0));
    const helping = sum(helpers.map(readCpuMicros)) + ourselves() - helpersBefore;
    const machine = readMachineCpu();
    const microsByPart: Record<string, number> = {};
    for (const [index, { part }] of components.entries()) {
      microsByPart[part] = (microsByPart[part] ?? 0) + (own[index] ?? 0);
    }
    const others = machine.busy - machineBefore.busy - sum(own) - helping;
    return {
      seconds: (performance.now() - startedAt) / 1_000,
      microsByPart,
      othersShare: Math.max(0, others) / Math.max(1, machine.total - machineBefore.total),
    };
  };
}

function ourselves(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
