import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { NodeRequestOutcome, OperatorRequest } from '#db/nodes.ts';
import type { Log } from '#runtime/log.ts';
import { SAFE_HEADERS } from '../web/layout.ts';
import { answerProblem, type Problem } from '../web/problem.ts';
import type { UserVariables } from './auth.ts';
import type { LiveAudit } from './live-audit.ts';

const BODY_BYTES_MAX = 4_096;
export const REASON_CHARACTERS_MAX = 500;

export interface ChangesParts {
  readonly audit: Pick<LiveAudit, 'latest' | 'expire'>;
  /** See `requestRetirement` in `db/nodes.ts`. */
  readonly retire: (node: string, request: OperatorRequest) => Promise<NodeRequestOutcome>;
  /** See `writeOffNode` in `db/nodes.ts`. */
  readonly writeOff: (node: string, request: OperatorRequest) => Promise<NodeRequestOutcome>;
  readonly log: Log;
}

const MISSING_REASON: Problem = {
  status: 400,
  code: 'missing_reason',
  title: 'Reason required',
  detail: `the field "reason" must have 1 to ${REASON_CHARACTERS_MAX} characters`,
};
const TOO_LARGE: Problem = {
  status: 413,
  code: 'too_large',
  title: 'Request too large',
  detail: `a request may have at most ${BODY_BYTES_MAX} bytes`,
};
const UNKNOWN_NODE: Problem = {
  status: 404,
  code: 'unknown_node',
  title: 'Unknown node',
  detail: 'no node in use has this id or name',
};
const AMBIGUOUS_NODE: Problem = {
  status: 409,
  code: 'ambiguous_node',
  title: 'Ambiguous name',
  detail: 'several nodes in use have this name; use the id',
};
const STILL_REACHABLE: Problem = {
  status: 409,
  code: 'still_reachable',
  title: 'Node reachable',
  detail: 'its Redis responds, so its votes can still be counted; retire it instead',
};

/** Returns the routes that change nodes: POST with a reason, as a form or as JSON. They are recorded with the user's name. */
export function createChanges({ audit, retire, writeOff, log }: ChangesParts): Hono<UserVariables> {
  const app = new Hono<UserVariables>();
  app.use(bodyLimit({ maxSize: BODY_BYTES_MAX, onError: (c) => answerProblem(c, TOO_LARGE) }));

  app.post('/:node/retire', async (c) => {
    const why = await reasonOf(c);
    if (why === undefined) return answerProblem(c, MISSING_REASON);
    const node = c.req.param('node');
    const outcome = await retire(node, { who: c.get('user'), why });
    return answer(c, outcome, { node, status: 'retiring' });
  });

  app.post('/:node/write-off', async (c) => {
    const why = await reasonOf(c);
    if (why === undefined) return answerProblem(c, MISSING_REASON);
    const node = c.req.param('node');
    const { nodes } = await audit.latest();
    const isReachable = nodes.some(
      ({ fault, id, host }) => fault === undefined && (id === node || host === node),
    );
    if (isReachable) return answerProblem(c, STILL_REACHABLE);
    const outcome = await writeOff(node, { who: c.get('user'), why });
    return answer(c, outcome, { node, status: 'written off' });
  });

  function answer(
    c: Context<UserVariables>,
    outcome: NodeRequestOutcome,
    change: { readonly node: string; readonly status: string },
  ): Response {
    switch (outcome) {
      case 'unknown':
        return answerProblem(c, UNKNOWN_NODE);
      case 'ambiguous':
        return answerProblem(c, AMBIGUOUS_NODE);
      case 'done': {
        log.info('node changed by operator', { ...change, user: c.get('user') });
        audit.expire();
        // The form on the page prefers HTML; programs do not.
        if (c.req.header('accept')?.includes('text/html')) return c.redirect('/', 303);
        return c.json(change, 202, { ...SAFE_HEADERS, 'Cache-Control': 'no-store' });
      }
      default: {
        const never: never = outcome;
        throw new TypeError(`unknown outcome: ${String(never)}`);
      }
    }
  }
  return app;
}

/** Returns the reason in a form or in JSON; `undefined` when it is missing, blank or too long. */
async function reasonOf(c: Context): Promise<string | undefined> {
  const isJson = c.req.header('content-type')?.startsWith('application/json');
  const body: unknown = await (isJson ? c.req.json() : c.req.parseBody()).catch(() => undefined);
  const reason = (body as { reason?: unknown } | null | undefined)?.reason;
  if (typeof reason !== 'string') return undefined;
  const text = reason.trim();
  // Postgres cannot store NUL or half of a surrogate pair.
  const isStorable = text.isWellFormed() && !text.includes('\0');
  return text !== '' && text.length <= REASON_CHARACTERS_MAX && isStorable ? text : undefined;
}
