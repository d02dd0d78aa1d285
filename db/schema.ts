import type { ColumnType, Generated, GeneratedAlways } from 'kysely';

/** A `bigint` read as a number, which is exact up to 2^53. */
type Count = ColumnType<number, number, number>;
type CountFromZero = ColumnType<number, number | undefined, number>;

/** The polls files applied so far, see `applyPollsFile`. */
interface PollsFilesTable {
  version: number;
  content: unknown;
  applied_at: Generated<Date>;
}

/** What is true of each poll now. */
interface PollsTable {
  no: GeneratedAlways<number>;
  id: string;
  question: string;
  opens_at: Date | null;
  closes_at: Date | null;
  /** Position in the polls file; null once a newer file no longer contains the poll. */
  position: number | null;
  /** Whether the result is shown before it is final. */
  results: Generated<'live' | 'closed'>;
  /** A rehearsal: not listed, and counted among no others. */
  is_hidden: Generated<boolean>;
  /** Days after the final result until the votes are deleted; null keeps them. */
  retain_votes_days: number | null;
  /** Language, texts and colours of the page. */
  presentation: Generated<unknown>;
  /** Raised by every change of the poll, but not by its scheduled close. */
  revision: Generated<number>;
  /** When this revision closed. */
  closed_at: Date | null;
  /** From then on neither the poll nor its result changes. */
  final_at: Date | null;
  /** The counts and their evidence, see `finalizePoll`. */
  result: unknown;
  /** From then on its votes are deleted once it is final, see `deleteForgotten`. */
  forgotten_at: Date | null;
  /** The votes of the voters up to this one are deleted. */
  forgotten_to: string | null;
}

interface ChoicesTable {
  poll_no: number;
  no: number;
  id: string;
  label: string;
  /** The name of its image; null for none. */
  image: string | null;
  /** Position in the polls file; null once a newer file no longer offers the choice. */
  position: number | null;
}

/** The images of choices by name, so that every node gets them. */
interface ImagesTable {
  name: string;
  bytes: Uint8Array;
}

/** Every node ever enrolled. */
interface NodesTable {
  id: string;
  /** Its host's name when it was enrolled, for people. */
  name: string;
  enrolled_at: Generated<Date>;
  /** When its ledger was last read. */
  read_at: Date | null;
  /** The start of the Postgres server that it was last read for, see `mirrorNodes`. */
  read_since: Date | null;
  /** Clock of the node minus clock of Postgres. */
  clock_skew_ms: number | null;
  /** When an operator asked to retire it. */
  retiring_at: Date | null;
  retired_at: Date | null;
  /** When an operator declared its uncounted votes lost. Revoked when the node is read again. */
  written_off_at: Date | null;
  written_off_reason: string | null;
}

/** How many votes all sources had accepted, every few seconds of the last day. */
interface HistoryTable {
  at: Date;
  accepted: number;
}

/** What is known of each source: its node's ledger, and the receipts folded into one row. */
interface SourcesTable {
  source: string;
  node_id: string;
  /** The mirror of the ledger. */
  accepted_seq: CountFromZero;
  accepted_votes: CountFromZero;
  /** An entry of the ledger as read once: the receipts are folded up to it and then compared with it. */
  target_seq: CountFromZero;
  target_votes: CountFromZero;
  /** The receipts 1 to `folded_seq` are gone from `receipts`; these are their sums. */
  folded_seq: CountFromZero;
  folded_votes: CountFromZero;
  folded_counted: CountFromZero;
  folded_changed: CountFromZero;
  folded_superseded: CountFromZero;
  folded_rejected: CountFromZero;
  /** The last target that was compared, and how many votes the receipts had fewer than the ledger. */
  compared_seq: CountFromZero;
  unexplained_votes: CountFromZero;
  /** Votes that the receipts have fewer because jobs were written off. They are not unexplained. */
  written_off_votes: CountFromZero;
  /** Jobs above it are discarded: no vote in them was acknowledged. */
  fenced_seq: number | null;
  fenced_at: Date | null;
  /** The highest number of a poll when it was fenced. It has no votes for later ones. */
  fenced_poll_no: number | null;
}

/** The receipt of a committed job above its source's `folded_seq`: the number of its votes, by outcome. */
interface ReceiptsTable {
  source: string;
  seq: Count;
  votes: Generated<number>;
  /** First votes of their voters. */
  counted: Generated<number>;
  /** Votes that replaced an older vote of the same voter. */
  changed: Generated<number>;
  /** Votes that a newer vote of the same voter had already superseded. */
  superseded: Generated<number>;
  /** Votes stored in `rejected_votes` instead. */
  rejected: Generated<number>;
  committed_at: Generated<Date>;
}

/** The jobs that an operator declared lost. Each has, or had until it was folded, a receipt without votes. */
interface WrittenOffJobsTable {
  source: string;
  seq: Count;
  reason: string;
  at: Generated<Date>;
}

/** The nodes in which the close of a poll's revision was stored, in or before the transaction that read their seals. */
interface ClosingsTable {
  poll_no: number;
  node_id: string;
  revision: number;
  read_at: Generated<Date>;
  /** The start of the Postgres server, see `mirrorNodes`. */
  read_since: Date;
}

/** The sources whose seals a closed poll awaits. `seq` is null until the source has sealed. */
interface SealsTable {
  poll_no: number;
  source: string;
  revision: number;
  seq: number | null;
}

/** The latest vote of each voter in each poll. */
interface VotesTable {
  /** When it was cast, in microseconds since 1970. */
  cast_us: number;
  voter_id: string;
  poll_no: number;
  choice_no: number;
}

/** Running counts per choice, sharded by committer to avoid lock contention, and summed on read. */
interface TalliesTable {
  poll_no: number;
  choice_no: number;
  shard: number;
  votes: Count;
}

interface RejectedVotesTable {
  source: string;
  seq: Count;
  index: number;
  reason: string;
  vote: unknown;
}

/** What operators changed, and every change of a poll by a polls file or by a rule. */
interface OperatorActionsTable {
  at: Generated<Date>;
  who: string;
  what: string;
  why: string;
  /** The id of the poll that changed; null for a change of something else. */
  poll: string | null;
}

/** Leases, see `acquireLease`. */
interface LeasesTable {
  name: string;
  holder: string;
  expires_at: Date;
}

/** The schema for Kysely's types. `schema.sql` shows the same schema as Postgres reports it. */
export interface Database {
  polls_files: PollsFilesTable;
  polls: PollsTable;
  choices: ChoicesTable;
  images: ImagesTable;
  nodes: NodesTable;
  sources: SourcesTable;
  history: HistoryTable;
  receipts: ReceiptsTable;
  written_off_jobs: WrittenOffJobsTable;
  closings: ClosingsTable;
  seals: SealsTable;
  votes: VotesTable;
  tallies: TalliesTable;
  rejected_votes: RejectedVotesTable;
  operator_actions: OperatorActionsTable;
  leases: LeasesTable;
}
