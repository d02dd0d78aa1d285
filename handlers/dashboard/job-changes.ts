import { Hono } from 'hono';
import { jobsAtFault } from '#audit/reconcile.ts';
import type { OperatorRequest } from '#db/nodes.ts';
import { JOBS_PER_WRITE_OFF_MAX, type JobNumber, type WriteOffOutcome } from '#db/write-off.ts';
import { jobKey, parseJobKey } from '#job';
import type { Log } from '#runtime/log.ts';
import { answerProblem, type Problem } from '../web/problem.ts';
import { problem } from '../web/problems.ts';
import type { UserVariables } from './auth.ts';
import { answerDone, fieldsOf, limitBody, MISSING_REASON, reasonIn } from './changes.ts';
import type { LiveAudit } from './live-audit.ts';

/** Enough for `JOBS_PER_WRITE_OFF_MAX` keys and a reason in a form. */
const BODY_BYTES_MAX = 32_768;
/** Keys in an error message. */
const JOBS_NAMED_MAX = 5;

export interface JobChangesParts {
  readonly audit: Pick<LiveAudit, 'latest' | 'expire'>;
  /** See `writeOffJobs` in `db/write-off.ts`. */
  readonly writeOffJobs: (jobs: readonly JobNumber[], request: OperatorRequest) => Promise<WriteOffOutcome>;
  readonly log: Log;
}

const INVALID_JOBS = problem(
  'invalid_jobs',
  `the field "jobs" must have 1 to ${JOBS_PER_WRITE_OFF_MAX} keys of jobs, <source>.<number>, separated by space`,
);

/**
 * Returns the route that writes off jobs: POST with keys and a reason, as a form or as JSON. It accepts only jobs that the audit
 * names as failed or lost, since all others may still be counted.
 */
export function createJobChanges({ audit, writeOffJobs, log }: JobChangesParts): Hono<UserVariables> {
  const app = new Hono<UserVariables>();
  app.use(limitBody(BODY_BYTES_MAX));

  app.post('/write-off', async (c) => {
    const fields = await fieldsOf(c);
    const why = reasonIn(fields);
    if (why === undefined) return answerProblem(c, MISSING_REASON);
    const jobs = jobsIn(fields);
    if (jobs === undefined) return answerProblem(c, INVALID_JOBS);
    const keys = jobs.map(({ source, seq }) => jobKey(source, seq));
    const { rows } = await audit.latest();
    const others = new Set(keys).difference(new Set(jobsAtFault(rows)));
    if (others.size > 0) return answerProblem(c, notAtFault([...others]));

    const result = await writeOffJobs(jobs, { who: c.get('user'), why });
    switch (result.outcome) {
      case 'unknown':
        return answerProblem(c, unknownJobs(result.jobs));
      case 'counted':
        return answerProblem(c, settledJobs(result.jobs));
      case 'done':
        log.info('jobs written off by operator', { jobs: keys.join(' '), user: c.get('user') });
        audit.expire();
        return answerDone(c, { jobs: keys, status: 'written off' });
      default: {
        const never: never = result;
        throw new TypeError(`unknown outcome: ${String(never)}`);
      }
    }
  });
  return app;
}

/** Returns the jobs among the fields, each once; `undefined` when there is none, too many, or one that is not a key. */
function jobsIn({ jobs }: Readonly<Record<string, unknown>>): JobNumber[] | undefined {
  if (typeof jobs !== 'string') return undefined;
  const keys = new Set(jobs.split(/\s+/).filter((key) => key !== ''));
  const parsed = [...keys].flatMap((key) => parseJobKey(key) ?? []);
  const isValid = keys.size > 0 && keys.size <= JOBS_PER_WRITE_OFF_MAX && parsed.length === keys.size;
  return isValid ? parsed : undefined;
}

const notAtFault = (jobs: readonly string[]): Problem =>
  problem(
    'not_at_fault',
    `the audit names these neither as failed nor as lost, so they may still be counted: ${named(jobs)}`,
  );

const unknownJobs = (jobs: readonly string[]): Problem =>
  problem(
    'unknown_job',
    `Postgres does not have these in a ledger yet; try again in a few seconds: ${named(jobs)}`,
  );

const settledJobs = (jobs: readonly string[]): Problem =>
  problem('job_counted', `these were counted or written off in the meantime: ${named(jobs)}`);

function named(jobs: readonly string[]): string {
  const more = jobs.length - JOBS_NAMED_MAX;
  return `${jobs.slice(0, JOBS_NAMED_MAX).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
