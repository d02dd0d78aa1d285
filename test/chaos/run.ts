import { setTimeout as sleep } from 'node:timers/promises';
import { LEDGER_KEY, readLedger } from '#job';
import { castAccepted, untilCounted } from '#kit/cast.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';
import { POLL } from '#kit/votes.ts';
import { areCommitted } from './committed.ts';
import { Crowd, type CrowdCounts } from './crowd.ts';
import { FAULTS, type Fault } from './faults.ts';
import { Random } from './random.ts';
import { Shows } from './shows.ts';
import { type ChaosSystem, type ChaosSystemOptions, startSystem, withRedis } from './system.ts';
import { judge, type Verdict } from './verdict.ts';

export interface ChaosOptions extends ChaosSystemOptions {
  readonly faults: number;
  readonly seed: number;
  /** Number of people who vote concurrently. */
  readonly people: number;
  readonly outageMs: number;
  /** Parts of the names of the faults to inject; all faults if empty. */
  readonly only: readonly string[];
  /** Called with each line of progress. */
  readonly onProgress: (line: string) => void;
  /** Ends the run early and removes the system. */
  readonly signal?: AbortSignal;
}

/** Statistics of one fault. */
export interface FaultRow {
  readonly name: string;
  times: number;
  accepted: number;
  refused: number;
  unanswered: number;
  /** From the removal of the cause until a new vote on every frontend was counted. */
  readonly recoveryMs: number[];
}

export interface ChaosReport {
  readonly rows: readonly FaultRow[];
  readonly obstacles: readonly string[];
  /** From the close of each poll to its final result, faults in between included. */
  readonly finalAfterMs: readonly number[];
  readonly verdict: Verdict;
}

const RECOVERY_MS_MAX = 90_000;
const DRAIN_MS_MAX = 120_000;
const FINAL_MS_MAX = 60_000;
/** The pause between faults is random, so that faults hit every phase of writes, commits and restarts. */
const PAUSE_MS_MAX = 1_000;
/** The share of faults injected in pairs. */
const PAIR_SHARE = 0.2;

/**
 * Injects faults into a running system under votes, then checks that every vote with a 202 is counted exactly once. The
 * same seed injects the same faults in the same order.
 */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { signal, onProgress } = options;
  const system = await startSystem(options);
  const folder = await scratchFolder();
  const interruption = new Promise<never>((_resolve, reject) => {
    const interrupt = (): void => reject(new Error('interrupted'));
    if (signal?.aborted) interrupt();
    signal?.addEventListener('abort', interrupt);
  });
  try {
    return await Promise.race([interruption, injectAndJudge(system, folder.path, options)]);
  } catch (error) {
    if (!signal?.aborted) onProgress(`failed; logs are in ${system.keepLogs()}`);
    throw error;
  } finally {
    await system.stop();
    await folder.remove();
  }
}

async function injectAndJudge(
  system: ChaosSystem,
  folder: string,
  { seed, faults: total, people, outageMs, only, onProgress }: ChaosOptions,
): Promise<ChaosReport> {
  const random = new Random(seed);
  const urls = system.frontends.map(({ url }) => url);
  const shows = new Shows(system.db, new Random(seed + 2));
  const crowd = new Crowd({ frontends: urls, polls: () => shows.ids, random: new Random(seed + 1) });
  const { faults, obstacles } = selectFaults(system, only);
  const context = { system, crowd, random, outageMs, folder };
  const rows = new Map<string, FaultRow>();
  shows.start();
  crowd.start(people);
  for (let done = 0; done < total; ) {
    await sleep(random.between(0, PAUSE_MS_MAX));
    const first = pickWeighted(random, faults);
    const others = faults.filter((fault) => fault !== first && !fault.isAlone);
    const isPair = done + 1 < total && !first.isAlone && others.length > 0 && random.next() < PAIR_SHARE;
    const chosen = isPair ? [first, pickWeighted(random, others)] : [first];
    done += chosen.length;
    onProgress(`${String(done).padStart(4)}/${total}  ${chosen.map(({ name }) => name).join(', and ')}`);
    const before = { ...crowd.counts };
    await runAll(chosen, context, crowd);
    record(rows, chosen, before, crowd.counts, await untilRecovered(system));
  }
  const notFinal = await shows.stop(FINAL_MS_MAX);
  await crowd.stop();
  await untilDrained(system);
  return {
    rows: [...rows.values()],
    obstacles,
    finalAfterMs: await shows.finalAfterMs(),
    verdict: await judge(system.db, crowd, shows, notFinal),
  };
}

/**
 * Injects faults concurrently. Two may collide, so that one stops what the other is about to break; afterwards every stopped
 * unit is restarted. After a single fault a stopped unit is a finding: it ended by itself.
 */
async function runAll(
  chosen: readonly Fault[],
  context: Parameters<Fault['run']>[0],
  crowd: Crowd,
): Promise<void> {
  const outcomes = await Promise.allSettled(chosen.map((fault) => fault.run(context)));
  if (chosen.length === 1 && outcomes[0]?.status === 'rejected') throw outcomes[0].reason;
  const { frontends, workers, postgres } = context.system;
  const units = [...frontends.flatMap(({ redis, handler }) => [redis, handler]), ...workers, postgres];
  for (const unit of units.filter(({ hasEnded }) => hasEnded)) {
    if (chosen.length === 1) crowd.unexpected.push(`${unit.name} ended by itself`);
    unit.start();
  }
}

/** Waits until a new vote on every frontend is accepted and counted; returns the milliseconds. Probes are new voters. */
async function untilRecovered({ frontends, db }: ChaosSystem): Promise<number> {
  const startedAt = performance.now();
  await Promise.all(
    frontends.map(async ({ url }) => {
      const receipt = await castAccepted(url, POLL, RECOVERY_MS_MAX);
      await untilCounted(db, receipt, RECOVERY_MS_MAX);
    }),
  );
  return performance.now() - startedAt;
}

/** Waits until every job in the frontends' ledgers is committed. No vote may arrive meanwhile. */
async function untilDrained({ frontends, db }: ChaosSystem): Promise<void> {
  const ledgers = await Promise.all(
    frontends.map((frontend) => withRedis(frontend, (client) => client.hgetall(LEDGER_KEY))),
  );
  const accepted = ledgers.flatMap((fields) => [...readLedger(fields)]);
  try {
    await until('every job is committed', () => areCommitted(db, accepted), DRAIN_MS_MAX);
  } catch {
    // The verdict names what is missing.
  }
}

function selectFaults(system: ChaosSystem, only: readonly string[]) {
  const wanted = FAULTS.filter(({ name }) => only.length === 0 || only.some((part) => name.includes(part)));
  const obstacles = wanted.flatMap(({ name, obstacle }) => {
    const reason = obstacle?.(system);
    return reason ? [`${name}: ${reason}`] : [];
  });
  const faults = wanted.filter(({ obstacle }) => !obstacle?.(system));
  if (faults.length === 0)
    throw new Error(`no fault can be injected: ${obstacles.join('; ') || only.join(', ')}`);
  return { faults, obstacles };
}

function pickWeighted(random: Random, faults: readonly Fault[]): Fault {
  return random.pick(faults.flatMap((fault) => Array.from({ length: fault.weight }, () => fault)));
}

function record(
  rows: Map<string, FaultRow>,
  chosen: readonly Fault[],
  before: CrowdCounts,
  after: CrowdCounts,
  recoveryMs: number,
): void {
  for (const { name } of chosen) {
    const row = rows.get(name) ?? { name, times: 0, accepted: 0, refused: 0, unanswered: 0, recoveryMs: [] };
    row.times += 1;
    row.accepted += after.accepted - before.accepted;
    row.refused += after.refused - before.refused;
    row.unanswered += after.unanswered - before.unanswered;
    row.recoveryMs.push(recoveryMs);
    rows.set(name, row);
  }
}
