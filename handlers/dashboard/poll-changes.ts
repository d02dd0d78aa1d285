import { type Context, Hono } from 'hono';
import type { ControlOutcome, Extension } from '#db/control.ts';
import type { OperatorRequest } from '#db/nodes.ts';
import type { Log } from '#runtime/log.ts';
import { answerProblem } from '../web/problem.ts';
import { problem } from '../web/problems.ts';
import type { UserVariables } from './auth.ts';
import { answerDone, fieldsOf, limitBody, MISSING_REASON, reasonIn } from './changes.ts';
import type { LiveAudit } from './live-audit.ts';

const BODY_BYTES_MAX = 4_096;
/** A week. */
const MINUTES_MAX = 10_080;

/** Other ids reach no route, since Postgres cannot compare every text. */
const POLL_PATH = '/:poll{[a-z0-9-]+}';

/** What operators may do with a poll, see `db/control.ts`. */
interface PollControl {
  readonly open: (poll: string, request: OperatorRequest) => Promise<ControlOutcome>;
  readonly close: (poll: string, request: OperatorRequest) => Promise<ControlOutcome>;
  readonly extend: (poll: string, extension: Extension, request: OperatorRequest) => Promise<ControlOutcome>;
  readonly embargo: (
    poll: string,
    results: 'live' | 'closed',
    request: OperatorRequest,
  ) => Promise<ControlOutcome>;
  readonly forget: (poll: string, request: OperatorRequest) => Promise<ControlOutcome>;
}

export interface PollChangesParts {
  readonly audit: Pick<LiveAudit, 'latest' | 'expire'>;
  readonly control: PollControl;
  readonly log: Log;
}

const INVALID_TIME = problem(
  'invalid_time',
  `either "minutes", 1 to ${MINUTES_MAX}, or "closesAt", a time like 2027-02-07T23:30:00Z, must be given`,
);

/** Errors by the outcome of a change. */
const REFUSALS = {
  unknown: 'unknown_poll',
  final: 'poll_final',
  invalid: 'invalid_change',
} as const;

/** Returns the routes that change polls: POST with a reason, as a form or as JSON. They are recorded with the user's name. */
export function createPollChanges({ audit, control, log }: PollChangesParts): Hono<UserVariables> {
  const app = new Hono<UserVariables>();
  app.use(limitBody(BODY_BYTES_MAX));

  for (const action of ['open', 'close', 'forget'] as const) {
    app.post(`${POLL_PATH}/${action}`, async (c) => {
      const why = reasonIn(await fieldsOf(c));
      if (why === undefined) return answerProblem(c, MISSING_REASON);
      const poll = c.req.param('poll');
      return answer(c, { poll, action }, await control[action](poll, { who: c.get('user'), why }));
    });
  }

  app.post(`${POLL_PATH}/extend`, async (c) => {
    const fields = await fieldsOf(c);
    const why = reasonIn(fields);
    if (why === undefined) return answerProblem(c, MISSING_REASON);
    const extension = extensionIn(fields);
    if (!extension) return answerProblem(c, INVALID_TIME);
    const poll = c.req.param('poll');
    const outcome = await control.extend(poll, extension, { who: c.get('user'), why });
    return answer(c, { poll, action: 'extend' }, outcome);
  });

  app.post(`${POLL_PATH}/embargo`, async (c) => {
    const fields = await fieldsOf(c);
    const why = reasonIn(fields);
    if (why === undefined) return answerProblem(c, MISSING_REASON);
    const { results } = fields;
    if (results !== 'live' && results !== 'closed') return answerProblem(c, problem('invalid_results'));
    const poll = c.req.param('poll');
    const outcome = await control.embargo(poll, results, { who: c.get('user'), why });
    return answer(c, { poll, action: 'embargo' }, outcome);
  });

  function answer(
    c: Context<UserVariables>,
    change: { readonly poll: string; readonly action: string },
    result: ControlOutcome,
  ): Response {
    switch (result.outcome) {
      case 'done':
        log.info('poll changed by operator', { ...change, user: c.get('user') });
        audit.expire();
        return answerDone(c, { ...change, status: 'done' });
      case 'unchanged':
        return answerDone(c, { ...change, status: 'unchanged', reason: result.reason });
      case 'unknown':
      case 'final':
      case 'invalid':
        return answerProblem(c, problem(REFUSALS[result.outcome], result.reason));
      default: {
        const never: never = result;
        throw new TypeError(`unknown outcome: ${String(never)}`);
      }
    }
  }
  return app;
}

/** Returns the new time to close among the fields; `undefined` without exactly one that is valid. Times without a zone are in UTC. */
function extensionIn({
  minutes = '',
  closesAt = '',
}: Readonly<Record<string, unknown>>): Extension | undefined {
  if ((minutes === '') === (closesAt === '')) return undefined;
  if (minutes !== '') {
    const number = Number(minutes);
    return Number.isInteger(number) && number >= 1 && number <= MINUTES_MAX ? { minutes: number } : undefined;
  }
  const [, local, zone] =
    /^(\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)(Z|[+-]\d\d:\d\d)?$/.exec(String(closesAt)) ?? [];
  const time = Date.parse(`${local}${zone ?? 'Z'}`);
  return Number.isNaN(time) ? undefined : { closesAt: time };
}
