import type { ColumnType, Generated } from 'kysely';

/** A `bigint` read as a number, which is exact up to 2^53. */
type Count = ColumnType<number, number, number>;

interface PollsTable {
  id: string;
  question: string;
  opens_at: Date | null;
  closes_at: Date | null;
  /** Position in the polls file; null once the poll was removed from it. */
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

/** The receipt of a committed job: the number of its votes, by outcome. */
interface BatchesTable {
  source: string;
  seq: Count;
  votes: number;
  /** First votes of their voters. */
  counted: number;
  /** Votes that replaced an older vote of the same voter. */
  changed: number;
  /** Votes that a newer vote of the same voter had already superseded. */
  superseded: number;
  /** Votes stored in `rejected_votes` instead. */
  rejected: number;
  committed_at: Generated<Date>;
}

/** Running counts per choice, sharded by committer to avoid lock contention, and summed on read. */
interface TalliesTable {
  poll_id: string;
  choice_id: string;
  shard: number;
  votes: Count;
}

/** Running totals of `batches` per source, sharded like `tallies`. */
interface CommittedTable {
  source: string;
  shard: number;
  jobs: Count;
  votes: Count;
}

/** The mirror of the nodes' ledgers: the captured totals of each source, kept when the node is gone. */
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

/** Retired nodes. A ledger read after `retired_at` revokes the retirement. */
interface RetiredNodesTable {
  node: string;
  retired_at: Generated<Date>;
}

/** Leases, see `acquireLease`. */
interface LeasesTable {
  name: string;
  holder: string;
  expires_at: Date;
}

/** The schema for Kysely's types. `schema.sql` shows the same schema as Postgres reports it. */
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
  leases: LeasesTable;
}
