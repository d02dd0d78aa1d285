import type { Evidence, PollResult, WrittenOffJobs } from '#db/results.ts';
import type { Snapshot } from './feed.ts';

/** A result that is not embargoed. */
export interface ShownResult extends PollResult {
  readonly choices: NonNullable<PollResult['choices']>;
}

export function isShown(result: PollResult): result is ShownResult {
  return result.choices !== null;
}

/** The results of a poll in the API. The order of the fields is part of the contract. */
export interface ResultView {
  readonly poll: string;
  readonly question: string;
  readonly total: number;
  readonly choices: readonly { readonly id: string; readonly label: string; readonly votes: number }[];
  /** `final` once `finalAt` is set, which never changes. */
  readonly status: 'provisional' | 'final';
  /** When the result became final; absent while it is provisional. */
  readonly finalAt?: string;
  /** The nodes whose uncounted votes are not in the final result, with the operator's reason; absent without any. */
  readonly writtenOff?: readonly { readonly name: string; readonly reason: string }[];
  /** The jobs that an operator wrote off, by node and reason: votes in them are not in the final result; absent without any. */
  readonly writtenOffJobs?: readonly WrittenOffJobs[];
  /** Of the whole system: votes accepted by all sources, and votes of all committed jobs. */
  readonly ledger: { readonly accepted: number; readonly committed: number };
  readonly asOf: string;
}

/** Returns the results of one poll of a snapshot. */
export function resultView(result: ShownResult, { results, asOf }: Snapshot): ResultView {
  const { poll, question, choices, finalAt, writtenOff, writtenOffJobs } = result;
  return {
    poll,
    question,
    total: choices.reduce((sum, { votes }) => sum + votes, 0),
    choices: choices.map(({ id, label, votes }) => ({ id, label, votes })),
    ...(finalAt === null
      ? { status: 'provisional' }
      : { status: 'final', finalAt: new Date(finalAt).toISOString() }),
    ...(writtenOff.length > 0 && { writtenOff: writtenOff.map(({ name, reason }) => ({ name, reason })) }),
    ...(writtenOffJobs.length > 0 && {
      writtenOffJobs: writtenOffJobs.map(({ name, reason, jobs }) => ({ name, reason, jobs })),
    }),
    ledger: { accepted: results.ledger.accepted, committed: results.ledger.committed },
    asOf: new Date(asOf).toISOString(),
  };
}

/** The evidence of a final result in the API. */
export interface EvidenceView {
  readonly poll: string;
  readonly revision: number;
  readonly finalAt: string;
  readonly choices: ResultView['choices'];
  /** Every source that sealed the poll. Its jobs up to `lastJob` are in the result; a receipt names source and job. */
  readonly sources: readonly { readonly source: string; readonly lastJob: number }[];
  /** The nodes whose uncounted votes are not in the result; empty without any. */
  readonly writtenOff: readonly { readonly node: string; readonly name: string; readonly reason: string }[];
  /** The jobs whose votes are not in the result; empty without any. */
  readonly writtenOffJobs: readonly (WrittenOffJobs & { readonly node: string })[];
}

/** Returns the evidence of a final result. */
export function evidenceView({
  poll,
  revision,
  finalAt,
  choices,
  sources,
  writtenOff,
  writtenOffJobs,
}: Evidence): EvidenceView {
  return {
    poll,
    revision,
    finalAt: new Date(finalAt).toISOString(),
    choices: choices.map(({ id, label, votes }) => ({ id, label, votes })),
    sources: Object.entries(sources).map(([source, lastJob]) => ({ source, lastJob })),
    writtenOff: writtenOff.map(({ id, name, reason }) => ({ node: id, name, reason })),
    writtenOffJobs: writtenOffJobs.map(({ id, name, reason, jobs }) => ({ node: id, name, reason, jobs })),
  };
}
