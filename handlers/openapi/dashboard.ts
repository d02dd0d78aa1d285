import type { Answer, HandlerApi, Operation } from './operation.ts';

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
      'unauthorized',
      'cross_site',
      'unknown_node',
      'ambiguous_node',
      ...(action === 'write-off' ? (['still_reachable'] as const) : []),
      'too_large',
    ],
  };
}

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
    'unauthorized',
    'cross_site',
    'unknown_job',
    'not_at_fault',
    'job_counted',
    'too_large',
  ],
};

export const DASHBOARD: HandlerApi = {
  name: 'dashboard',
  description: 'For operators: the audit of every accepted vote, and changes of nodes and jobs.',
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
      problems: ['unauthorized'],
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
  ],
};
