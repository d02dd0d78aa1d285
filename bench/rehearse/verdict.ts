import type { Verdict as AuditVerdict } from '#audit/report.ts';
import { GAVE_UP, type LoadResult } from '#kit/load/spec.ts';
import { formatNumber } from '../report/table.ts';
import type { Group } from './crowd.ts';
import type { Fault } from './faults.ts';

const REFUSED_SHARE_MAX = 0.01;
const FAILED_SHARE_MAX = 0.001;
const P99_MS_MAX = 1_000;
/** With fewer requests sent in time, the load generator was the limit. */
const SENT_SHARE_MIN = 0.99;

/** What happened to the requests of one group. */
export interface GroupOutcome {
  readonly group: Group;
  readonly connections: number;
  readonly result: LoadResult;
  /** Voters counted for the group's choice; 0 for page views. */
  readonly counted: number;
}

/** What a rehearsal measured. */
export interface Rehearsal {
  readonly groups: readonly GroupOutcome[];
  /** From the last answer until no vote waited; `undefined` if it took too long. */
  readonly countedMs: number | undefined;
  /** From the last answer, when the poll is closed, until the result was final; `undefined` if it took too long. */
  readonly finalMs: number | undefined;
  readonly audit: { readonly verdict: AuditVerdict; readonly lost: number };
  readonly faults: readonly Fault[];
}

/** One line of the verdict. `isMet` is `undefined` where a limit does not apply. */
interface Goal {
  readonly goal: string;
  readonly measured: string;
  readonly limit: string;
  readonly isMet: boolean | undefined;
}

export interface Verdict {
  /** `unproven`: something could not be read or did not end. */
  readonly outcome: 'ready' | 'not ready' | 'lost' | 'unproven';
  /** One sentence for a manager. */
  readonly headline: string;
  readonly goals: readonly Goal[];
}

/** Sums of all votes, page views excluded. */
export interface Totals {
  readonly offered: number;
  readonly accepted: number;
  readonly refused: number;
  readonly failed: number;
  /** The highest of the groups: percentiles cannot be summed. */
  readonly p99: number;
  readonly voters: number;
  readonly counted: number;
  /** Voters with an accepted vote who are missing in the result. */
  readonly missing: number;
  /** Voters in the result whom no answer explains, not even one that may have been lost. */
  readonly surplus: number;
}

export function totalsOf(groups: readonly GroupOutcome[]): Totals {
  const own = groups.filter(({ group }) => group.kind !== 'page');
  const sum = (pick: (outcome: GroupOutcome) => number): number =>
    own.reduce((total, outcome) => total + pick(outcome), 0);
  return {
    offered: sum(({ result }) => offeredOf(result)),
    accepted: sum(({ result }) => result.accepted),
    refused: sum(({ result }) => result.refused),
    failed: sum(({ result }) => result.failed),
    p99: Math.max(0, ...own.map(({ result }) => result.latency.p99)),
    voters: sum(({ result }) => result.voters),
    counted: sum(({ counted }) => counted),
    missing: sum(({ result, counted }) => Math.max(0, result.voters - counted)),
    surplus: sum((outcome) => Math.max(0, outcome.counted - outcome.result.voters - unknownOf(outcome))),
  };
}

export function offeredOf({ accepted, refused, failed }: LoadResult): number {
  return accepted + refused + failed;
}

/** A vote that was sent and got no 202 may count: Redis may have stored it before the connection broke. */
function unknownOf({ connections, result }: GroupOutcome): number {
  const unsent = result.answers[GAVE_UP]?.count ?? 0;
  return result.refused + result.failed - unsent + connections - result.primed;
}

/** Returns the verdict. With faults, a system may refuse votes and answer late, but must lose none. */
export function judge({ groups, countedMs, finalMs, audit, faults }: Rehearsal): Verdict {
  const totals = totalsOf(groups);
  const { offered, accepted, refused, failed, p99, missing, surplus } = totals;
  const requests = groups.reduce((sum, { result }) => sum + offeredOf(result), 0);
  const inTime = groups.reduce((sum, { result }) => sum + result.sentInTime, 0);
  const lost = Math.max(audit.lost, missing);
  const unlessFaults = (isMet: boolean): boolean | undefined => (faults.length > 0 ? undefined : isMet);
  const speed: Goal[] = [
    {
      goal: 'votes refused (503)',
      measured: `${count(refused)}, ${percent(refused, offered)}`,
      limit: 'at most 1 %',
      isMet: unlessFaults(refused <= REFUSED_SHARE_MAX * offered),
    },
    {
      goal: 'votes without a proper answer',
      measured: `${count(failed)}, ${percent(failed, offered)}`,
      limit: 'at most 0.1 %',
      isMet: unlessFaults(failed <= FAILED_SHARE_MAX * offered),
    },
    {
      goal: 'answer to a vote, 99th percentile',
      measured: duration(p99),
      limit: 'at most 1 s',
      isMet: unlessFaults(p99 <= P99_MS_MAX),
    },
  ];
  const load: Goal = {
    goal: 'requests sent in time',
    measured: percent(inTime, requests),
    limit: 'at least 99 %',
    isMet: unlessFaults(inTime >= SENT_SHARE_MIN * requests),
  };
  const proof: Goal[] = [
    { goal: 'votes lost', measured: count(lost), limit: 'none', isMet: lost === 0 },
    {
      goal: 'votes counted without a request',
      measured: count(surplus),
      limit: 'none',
      isMet: surplus === 0,
    },
    { goal: 'audit of all nodes', measured: audit.verdict, limit: 'good', isMet: audit.verdict === 'good' },
    untilGoal('time until counted', countedMs),
    untilGoal('time until final', finalMs),
  ];
  const goals: Goal[] = [
    { goal: 'votes offered', measured: count(offered), limit: '', isMet: undefined },
    { goal: 'votes accepted', measured: count(accepted), limit: '', isMet: undefined },
    ...speed,
    ...proof,
    load,
  ];
  return { ...outcomeOf({ lost, surplus, audit, proof, speed, load, accepted, faults }), goals };
}

function untilGoal(goal: string, ms: number | undefined): Goal {
  return {
    goal,
    measured: ms === undefined ? 'not reached' : duration(ms),
    limit: '',
    isMet: ms !== undefined,
  };
}

function outcomeOf(
  parts: Pick<Rehearsal, 'audit' | 'faults'> & {
    readonly lost: number;
    readonly surplus: number;
    readonly accepted: number;
    readonly proof: readonly Goal[];
    readonly speed: readonly Goal[];
    readonly load: Goal;
  },
): Pick<Verdict, 'outcome' | 'headline'> {
  const { lost, surplus, audit, proof, speed, load, accepted, faults } = parts;
  if (lost > 0 || surplus > 0 || audit.verdict === 'bad') {
    const what = lost > 0 ? `${count(lost)} accepted votes are lost` : 'the count is wrong';
    return { outcome: 'lost', headline: `FAILED: ${what}. Run npm run audit before anything else.` };
  }
  const unproven = proof.filter(({ isMet }) => isMet === false);
  if (unproven.length > 0 || accepted === 0) {
    const what = accepted === 0 ? 'no vote was accepted' : named(unproven);
    return { outcome: 'unproven', headline: `UNPROVEN: ${what}. No vote is known to be lost.` };
  }
  const missed = speed.filter(({ isMet }) => isMet === false);
  const isOverloaded = load.isMet === false;
  if (missed.length > 0 || isOverloaded) {
    const advice = isOverloaded
      ? ' The crowd was larger than this machine can send or the system can answer.'
      : '';
    const what = missed.length > 0 ? `, but ${named(missed)}` : '';
    return { outcome: 'not ready', headline: `NOT READY: no accepted vote was lost${what}.${advice}` };
  }
  const faulty = faults.length > 0 ? ` despite ${faults.length} faults` : ', and fast enough';
  return { outcome: 'ready', headline: `READY: all ${count(accepted)} accepted votes are counted${faulty}.` };
}

function named(goals: readonly Goal[]): string {
  return goals.map(({ goal, measured, limit }) => `${goal}: ${measured}${limit && ` (${limit})`}`).join('; ');
}

function count(value: number): string {
  return formatNumber(value, 0);
}

function percent(part: number, whole: number): string {
  return `${formatNumber(whole === 0 ? 0 : (100 * part) / whole, 1)} %`;
}

/** Returns `240 ms`, `3.2 s`. */
function duration(ms: number): string {
  return ms < 1_000 ? `${formatNumber(ms, 0)} ms` : `${formatNumber(ms / 1_000, 1)} s`;
}
