import type { Answer, HandlerApi, Operation } from './operation.ts';

const REFUSED = ['unauthorized', 'too_many'] as const;
const CHANGE_REFUSED = [...REFUSED, 'viewer', 'cross_site'] as const;

const REASON = { schema: 'Reason', example: { reason: 'its disk died' } } as const;

const FORM_DONE: Answer = {
  description: 'As 202, for the form of the page, which accepts text/html.',
  headers: ['Location'],
};

/** Describes a change of a node. */
function change(
  action: 'retire' | 'write-off',
  status: 'retiring' | 'written off',
  texts: Pick<Operation, 'id' | 'summary' | 'description'>,
): Operation {
  return {
    method: 'post',
    path: `/nodes/{node}/${action}`,
    ...texts,
    security: ['operator'],
    body: { 'application/json': REASON, 'application/x-www-form-urlencoded': REASON },
    answers: {
      202: {
        description: 'The request is recorded with the name of the operator and the reason.',
        headers: ['Cache-Control'],
        content: { 'application/json': { schema: 'NodeChange', example: { node: 'frontend01', status } } },
      },
      303: FORM_DONE,
    },
    problems: [
      'missing_reason',
      ...CHANGE_REFUSED,
      'unknown_node',
      'ambiguous_node',
      ...(action === 'write-off' ? (['still_reachable'] as const) : []),
      'too_large',
    ],
  };
}

const WHY = 'the host says so';

/** Describes a change of a poll; `fields` are sent besides the reason. */
function pollChange(
  action: string,
  schema: 'Reason' | 'Extension' | 'Embargo',
  fields: Readonly<Record<string, unknown>>,
  { problems, ...texts }: Pick<Operation, 'id' | 'summary' | 'description' | 'problems'>,
): Operation {
  const body = { schema, example: { ...fields, reason: WHY } };
  return {
    method: 'post',
    path: `/polls/{poll}/${action}`,
    ...texts,
    security: ['operator'],
    body: { 'application/json': body, 'application/x-www-form-urlencoded': body },
    answers: {
      202: {
        description:
          'The change is recorded with the name of the operator and the reason, or nothing had to change.',
        headers: ['Cache-Control'],
        content: {
          'application/json': {
            schema: 'PollChange',
            example: { poll: 'cats-vs-dogs', action, status: 'done' },
          },
        },
      },
      303: FORM_DONE,
    },
    problems: ['missing_reason', ...CHANGE_REFUSED, 'unknown_poll', 'too_large', ...problems],
  };
}

const POLL_CHANGES: readonly Operation[] = [
  pollChange(
    'open',
    'Reason',
    {},
    {
      id: 'openPoll',
      summary: 'Open a poll now',
      description:
        'Also one that has closed, until its result is final. A time to close that has passed is removed.',
      problems: ['poll_final'],
    },
  ),
  pollChange(
    'close',
    'Reason',
    {},
    {
      id: 'closePoll',
      summary: 'Close a poll now',
      description: 'Handlers refuse votes as soon as they read it, within seconds.',
      problems: [],
    },
  ),
  pollChange(
    'extend',
    'Extension',
    { minutes: 5 },
    {
      id: 'extendPoll',
      summary: 'Move the time at which a poll closes',
      description:
        'By minutes, or to a time; exactly one of the two. It opens a poll that has closed, until its result is final.',
      problems: ['invalid_time', 'poll_final', 'invalid_change'],
    },
  ),
  pollChange(
    'embargo',
    'Embargo',
    { results: 'closed' },
    {
      id: 'embargoPoll',
      summary: 'Embargo the result of a poll, or show it',
      description: 'An embargoed result is not shown until it is final.',
      problems: ['invalid_results', 'poll_final'],
    },
  ),
  pollChange(
    'forget',
    'Reason',
    {},
    {
      id: 'forgetPoll',
      summary: 'Delete the votes of a final poll',
      description: 'Its result and the evidence stay. A hidden poll disappears.',
      problems: ['invalid_change'],
    },
  ),
];

const JOB = 'frontend01-k3x9abcdefghi.mh3k2a-x7.42';
const JOBS = { schema: 'JobsToWriteOff', example: { jobs: JOB, reason: 'not readable' } } as const;

const WRITE_OFF_JOBS: Operation = {
  method: 'post',
  path: '/jobs/write-off',
  id: 'writeOffJobs',
  summary: 'Write off jobs',
  description:
    'For jobs that the audit names as failed or lost. Polls become final without the votes in them, and their results name the jobs. It cannot be revoked.',
  security: ['operator'],
  body: { 'application/json': JOBS, 'application/x-www-form-urlencoded': JOBS },
  answers: {
    202: {
      description: 'The jobs are written off, all of them or none.',
      headers: ['Cache-Control'],
      content: {
        'application/json': { schema: 'JobsChange', example: { jobs: [JOB], status: 'written off' } },
      },
    },
    303: FORM_DONE,
  },
  problems: [
    'missing_reason',
    'invalid_jobs',
    ...CHANGE_REFUSED,
    'unknown_job',
    'not_at_fault',
    'job_counted',
    'too_large',
  ],
};

export const DASHBOARD: HandlerApi = {
  name: 'dashboard',
  description: 'For operators: the audit of every accepted vote, and changes of nodes, jobs and polls.',
  port: 8082,
  operations: [
    {
      method: 'get',
      path: '/ledger',
      id: 'getLedger',
      summary: 'The audit of every accepted vote',
      description: 'At most two seconds old. It answers while nodes or Postgres are down, and says so.',
      security: ['operator'],
      answers: {
        200: {
          description: 'The audit.',
          headers: ['Cache-Control'],
          content: { 'application/json': { schema: 'Ledger' } },
        },
      },
      problems: REFUSED,
    },
    change('retire', 'retiring', {
      id: 'retireNode',
      summary: 'Retire a node',
      description: 'Its handlers stop accepting votes. It is retired once all its votes are counted.',
    }),
    change('write-off', 'written off', {
      id: 'writeOffNode',
      summary: 'Write off a node',
      description: 'Polls become final without its uncounted votes, and their results name the node.',
    }),
    WRITE_OFF_JOBS,
    {
      method: 'get',
      path: '/polls',
      id: 'getPolls',
      summary: 'Every poll, and who has taken its last change',
      description:
        'At most two seconds old. Nodes and handlers that have not taken the present revision are named.',
      security: ['operator'],
      answers: {
        200: {
          description: 'The polls, hidden ones last.',
          headers: ['Cache-Control'],
          content: { 'application/json': { schema: 'Polls' } },
        },
      },
      problems: REFUSED,
    },
    ...POLL_CHANGES,
  ],
};
