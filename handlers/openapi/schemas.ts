import { toJsonSchema } from '@valibot/to-json-schema';
import * as v from 'valibot';
import { JOBS_PER_WRITE_OFF_MAX } from '#db/write-off.ts';
import { REASON_CHARACTERS_MAX } from '../dashboard/changes.ts';
import type { PollJson } from '../dashboard/polls-cards.ts';
import type { AuditView } from '../dashboard/view.ts';
import type { EvidenceView, ResultView } from '../results/view.ts';
import { problemType } from '../web/problem.ts';
import { PROBLEMS, type ProblemCode } from '../web/problems.ts';

/** A JSON Schema of draft 2020-12, the dialect of OpenAPI 3.1. */
export type JsonSchema = Readonly<Record<string, unknown>>;

const said = (description: string) => v.description<string, string>(description);
const text = (description: string) => v.pipe(v.string(), said(description));
const time = (description: string) => v.pipe(v.string(), v.isoTimestamp(), said(description));
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const integer = v.pipe(v.number(), v.integer());

/** The ids that the polls file permits. */
const POLL_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
export const pollId = v.pipe(v.string(), v.regex(POLL_ID), said('The id of a poll.'));
const choiceId = v.pipe(v.string(), v.regex(POLL_ID), said('The id of a choice.'));
const receipt = text('The name of the source and the number of its job, which is unique.');
const label = v.string();
const choices = v.array(v.strictObject({ id: choiceId, label, votes: count }));

const ballot = v.object({ choice: choiceId });

const accepted = v.strictObject({
  status: v.literal('accepted'),
  poll: pollId,
  choice: choiceId,
  castAt: time('The time of the vote in microseconds. Of the votes of one voter the latest counts.'),
  receipt,
});

const credential = v.object({ credential: text('A JWT, or the answer to the challenge.') });
const issuedToken = v.strictObject({ token: text('Send it as a Bearer token with each vote.') });

const pollDefinition = v.strictObject({
  poll: pollId,
  question: v.string(),
  choices: v.array(
    v.strictObject({
      id: choiceId,
      label,
      image: v.optional(text('The path of its image: AVIF, JPEG, PNG or WebP.')),
    }),
  ),
  opensAt: v.nullable(time('Votes are accepted from this time on; null if they are from the start.')),
  closesAt: v.nullable(time('Votes are accepted before this time; null if an operator closes the poll.')),
  phase: v.picklist(['not open', 'open', 'closed']),
});

/** Jobs that an operator wrote off for one reason. */
const jobsOfANode = { name: v.string(), reason: v.string(), jobs: v.array(v.string()) };

// The compiler compares these schemas with what the handlers return: no member may be missing or have another type.

const results: v.GenericSchema<ResultView> = v.strictObject({
  poll: pollId,
  question: v.string(),
  total: count,
  choices,
  status: v.picklist(['provisional', 'final']),
  finalAt: v.exactOptional(time('When the result became final; absent while it is provisional.')),
  writtenOff: v.exactOptional(
    v.pipe(
      v.array(v.strictObject({ name: v.string(), reason: v.string() })),
      v.description('The nodes whose uncounted votes are not in the final result; absent without any.'),
    ),
  ),
  writtenOffJobs: v.exactOptional(
    v.pipe(
      v.array(v.strictObject(jobsOfANode)),
      v.description('The jobs whose votes, for any poll, are not in the final result; absent without any.'),
    ),
  ),
  ledger: v.pipe(
    v.strictObject({ accepted: count, committed: count }),
    v.description(
      'Of the whole system: accepted votes, and votes of committed jobs. Equal when nothing waits.',
    ),
  ),
  asOf: time('The time before the results were read.'),
});

const evidence: v.GenericSchema<EvidenceView> = v.strictObject({
  poll: pollId,
  revision: v.pipe(count, v.description('The revision of the poll that every source has sealed.')),
  finalAt: time('When the result became final.'),
  choices,
  sources: v.pipe(
    v.array(v.strictObject({ source: v.string(), lastJob: count })),
    v.description(
      'Every source that was awaited when the poll closed. Its jobs up to lastJob are in the result.',
    ),
  ),
  writtenOff: v.pipe(
    v.array(v.strictObject({ node: v.string(), name: v.string(), reason: v.string() })),
    v.description('The nodes whose uncounted votes are not in the result.'),
  ),
  writtenOffJobs: v.pipe(
    v.array(v.strictObject({ node: v.string(), ...jobsOfANode })),
    v.description('The jobs whose votes, for any poll, are not in the result.'),
  ),
});

const receiptStatus = v.strictObject({
  receipt,
  status: v.pipe(
    v.picklist(['counted', 'pending', 'written_off', 'unknown']),
    v.description(
      'counted once its job is committed, written_off once an operator has declared it lost. unknown also in the first seconds after the vote.',
    ),
  ),
});

const why = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(REASON_CHARACTERS_MAX),
  said('Why; it is recorded.'),
);
const reason = v.object({ reason: why });

const jobsToWriteOff = v.object({
  jobs: text(`At most ${JOBS_PER_WRITE_OFF_MAX} keys of jobs, <source>.<number>, separated by space.`),
  reason: why,
});

const jobsChange = v.strictObject({ jobs: v.array(v.string()), status: v.literal('written off') });

const nodeChange = v.strictObject({
  node: text('The node, as named in the path.'),
  status: v.picklist(['retiring', 'written off']),
});

const outcomes = {
  accepted: count,
  counted: count,
  changed: count,
  superseded: count,
  rejected: count,
  pending: count,
  failed: count,
  writtenOff: count,
  lost: count,
};

const node = v.strictObject({
  node: text('Its id.'),
  name: text("Its host's name."),
  state: v.picklist(['enrolled', 'retiring', 'retired', 'written off']),
  reachable: v.boolean(),
  enrolledAt: v.nullable(time('When it was enrolled; null while Postgres has no row of it.')),
  readAt: v.nullable(time('When a worker last read it.')),
  clockSkewMs: v.nullable(integer),
  uncountedJobs: count,
  uncountedVotes: count,
  ...outcomes,
  writtenOffReason: v.nullable(v.string()),
});

const queue = v.strictObject({
  node: v.nullable(v.string()),
  name: v.nullable(v.string()),
  address: v.string(),
  reachable: v.boolean(),
  reason: v.nullable(text('Why it is not reachable.')),
  waiting: count,
  active: count,
  delayed: count,
  failed: count,
  oldestMs: v.nullable(count),
  memory: v.strictObject({ used: count, max: count }),
  appendOnlyFile: v.picklist(['on', 'off', 'failing', 'unknown']),
});

const source = v.strictObject({
  source: v.string(),
  node: v.string(),
  name: v.string(),
  reachable: v.boolean(),
  retired: v.boolean(),
  ...outcomes,
  unexplained: v.pipe(integer, v.description('Votes that the ledger and the receipts count differently.')),
  jobs: v.strictObject({
    accepted: count,
    committed: count,
    pending: count,
    failed: count,
    writtenOff: count,
    lost: count,
    discarded: count,
  }),
  lostJobs: v.array(count),
  failedJobs: v.array(count),
  writtenOffJobs: v.array(v.strictObject({ seq: count, reason: v.string() })),
});

const ledger: v.GenericSchema<AuditView> = v.strictObject({
  asOf: time('When the nodes were read.'),
  reconciledAt: v.nullable(time('The time of the last complete reconciliation; null before the first.')),
  postgres: v.strictObject({ reachable: v.boolean(), reason: v.nullable(v.string()) }),
  total: v.pipe(
    v.strictObject(outcomes),
    v.description('Votes of all sources. accepted is the sum of the others; lost must be 0.'),
  ),
  nodes: v.pipe(v.array(node), v.description('Every node ever enrolled.')),
  polls: v.pipe(
    v.array(
      v.strictObject({
        poll: v.string(),
        nodes: v.array(v.string()),
        unsealed: v.array(v.string()),
        uncounted: v.array(v.string()),
        unexplained: v.array(v.string()),
        reasons: v.array(v.string()),
      }),
    ),
    v.description('Each closed poll that is not final, and what it awaits.'),
  ),
  foreign: v.pipe(
    v.array(
      v.strictObject({ source: v.string(), address: v.string(), isInLedger: v.boolean(), jobs: count }),
    ),
    v.description('Sources found on nodes that are not theirs.'),
  ),
  sources: v.array(source),
  queues: v.array(queue),
});

const share = v.strictObject({ taken: count, of: count, missing: v.array(v.string()) });

const polls: v.GenericSchema<PollJson[]> = v.array(
  v.strictObject({
    id: pollId,
    question: v.string(),
    revision: count,
    phase: v.picklist(['not open', 'open', 'closing', 'closed', 'final', 'forgotten']),
    opensAt: v.nullable(time('When it opens.')),
    closesAt: v.nullable(time('When it closes.')),
    closedAt: v.nullable(time('When this revision closed.')),
    finalAt: v.nullable(time('When its result became final.')),
    forgottenAt: v.nullable(time('When its votes were to be deleted.')),
    results: v.picklist(['live', 'closed']),
    isHidden: v.boolean(),
    isListed: v.pipe(v.boolean(), v.description('Whether the last polls file contains it.')),
    change: v.nullable(
      v.strictObject({ at: time('When it was made.'), who: v.string(), what: v.string(), why: v.string() }),
    ),
    nodes: v.pipe(share, v.description('Nodes that hold the present revision.')),
    handlers: v.pipe(share, v.description('Handlers that apply it.')),
    takenMs: v.nullable(v.pipe(integer, v.description('How long that took; null until all have.'))),
    reasons: v.pipe(v.array(v.string()), v.description('What its final result awaits.')),
  }),
);

const extension = v.union([
  v.object({ minutes: v.pipe(v.number(), v.integer(), v.minValue(1)), reason: why }),
  v.object({ closesAt: time('The new time to close.'), reason: why }),
]);
const embargo = v.object({ results: v.picklist(['live', 'closed']), reason: why });
const pollChange = v.strictObject({
  poll: pollId,
  action: v.picklist(['open', 'close', 'extend', 'embargo', 'forget']),
  status: v.picklist(['done', 'unchanged']),
  reason: v.exactOptional(text('Why nothing changed.')),
});

const SCHEMAS = {
  Ballot: ballot,
  AcceptedVote: accepted,
  PollDefinition: pollDefinition,
  Credential: credential,
  IssuedToken: issuedToken,
  Results: results,
  Evidence: evidence,
  ReceiptStatus: receiptStatus,
  Reason: reason,
  NodeChange: nodeChange,
  JobsToWriteOff: jobsToWriteOff,
  JobsChange: jobsChange,
  Ledger: ledger,
  Polls: polls,
  Extension: extension,
  Embargo: embargo,
  PollChange: pollChange,
} as const;

export type SchemaName = keyof typeof SCHEMAS;

/** Returns the schemas of all bodies but problems, by name. */
export function bodySchemas(): Record<SchemaName, JsonSchema> {
  return Object.fromEntries(
    Object.entries(SCHEMAS).map(([name, schema]) => [name, jsonSchemaOf(schema)]),
  ) as Record<SchemaName, JsonSchema>;
}

/** Returns the schema of a problem. */
export function problemSchema(code: ProblemCode): JsonSchema {
  const { status, title } = PROBLEMS[code];
  const urn = problemType(code, undefined);
  const page = problemType(code, '');
  return jsonSchemaOf(
    v.strictObject({
      type: v.pipe(
        v.string(),
        v.regex(new RegExp(`^(${urn}|https?://.+${page})$`)),
        said('The address of its page, or a URN where RECEIPTS_URL is not set.'),
      ),
      title: v.literal(title),
      status: v.literal(status),
      code: v.literal(code),
      detail: text('What exactly is wrong, for the developer of the client.'),
    }),
  );
}

/** Returns the JSON Schema of a valibot schema. */
export function jsonSchemaOf(schema: v.GenericSchema): JsonSchema {
  const { $schema: _, ...rest } = toJsonSchema(schema, { target: 'draft-2020-12' });
  return rest;
}
