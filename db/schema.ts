import type { ColumnType, Generated } from 'kysely';

/** A count that may exceed 32 bits. It is read as a number: 2^53 votes are more than we shall see. */
type Count = ColumnType<number, number, number>;

interface PollsTable {
  id: string;
  question: string;
  opens_at: Date | null;
  closes_at: Date | null;
  /** The place in the polls file; null for a poll that is no longer in it but keeps its votes. */
  position: number | null;
}

interface ChoicesTable {
  poll_id: string;
  id: string;
  label: string;
  position: number;
}

interface VotesTable {
  poll_id: string;
  voter_id: string;
  choice_id: string;
  cast_at: Date;
}

/** The receipt of a job: that its votes are counted, and what became of them. */
interface BatchesTable {
  source: string;
  seq: Count;
  votes: number;
  /** First votes of their voters. */
  counted: number;
  /** Votes that replaced an older one of their voter. */
  changed: number;
  /** Votes older than one that their voter had cast already. */
  superseded: number;
  /** Votes kept in `rejected_votes`. */
  rejected: number;
  committed_at: Generated<Date>;
}

/** Running counts, one row a committer (`shard`), so that committers do not wait for each other; summed on read. */
interface TalliesTable {
  poll_id: string;
  choice_id: string;
  shard: number;
  votes: Count;
}

/** Jobs and votes committed so far, sharded like `tallies`: the totals of `batches`, without counting its rows. */
interface CommittedTable {
  source: string;
  shard: number;
  jobs: Count;
  votes: Count;
}

/** What each source says it captured: the mirror of the ledgers in the nodes' Redis, which outlives them. */
interface LedgersTable {
  source: string;
  node: string;
  accepted_seq: Count;
  accepted_votes: Count;
  observed_at: Date;
}

interface RejectedVotesTable {
  source: string;
  seq: Count;
  index: number;
  reason: string;
  vote: unknown;
}

/** Nodes that will not come back, unless their ledger is read later than this. */
interface RetiredNodesTable {
  node: string;
  retired_at: Generated<Date>;
}

/** The tables, as Kysely sees them. `schema.sql` is the same as Postgres sees it. */
export interface Database {
  polls: PollsTable;
  choices: ChoicesTable;
  votes: VotesTable;
  batches: BatchesTable;
  tallies: TalliesTable;
  committed: CommittedTable;
  ledgers: LedgersTable;
  rejected_votes: RejectedVotesTable;
  retired_nodes: RetiredNodesTable;
}
