import { type Context, Hono, type MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { NodeRequestOutcome, OperatorRequest } from '#db/nodes.ts';
import type { Log } from '#runtime/log.ts';
import { prefersHtml } from '../web/accept.ts';
import { SAFE_HEADERS } from '../web/layout.ts';
import { answerProblem } from '../web/problem.ts';
import { problem } from '../web/problems.ts';
import type { UserVariables } from './auth.ts';
import type { LiveAudit } from './live-audit.ts';

const BODY_BYTES_MAX = 4_096;
export const REASON_CHARACTERS_MAX = 500;

export interface NodeChangesParts {
  readonly audit: Pick<LiveAudit, 'latest' | 'expire'>;
  /** See `requestRetirement` in `db/nodes.ts`. */
  readonly retire: (node: string, request: OperatorRequest) => Promise<NodeRequestOutcome>;
  /** See `writeOffNode` in `db/nodes.ts`. */
  readonly writeOff: (node: string, request: OperatorRequest) => Promise<NodeRequestOutcome>;
  readonly log: Log;
}

export const MISSING_REASON = problem(
  'missing_reason',
  `the field "reason" must have 1 to ${REASON_CHARACTERS_MAX} characters`,
);

/** Returns the routes that change nodes: POST with a reason, as a form or as JSON. They are recorded with the user's name. */
export function createNodeChanges({ audit, retire, writeOff, log }: NodeChangesParts): Hono<UserVariables> {
  const app = new Hono<UserVariables>();
  app.use(limitBody(BODY_BYTES_MAX));

  app.post('/:node/retire', async (c) => {
    const why = reasonIn(await fieldsOf(c));
    if (why === undefined) return answerProblem(c, MISSING_REASON);
    const node = c.req.param('node');
    const outcome = await retire(node, { who: c.get('user'), why });
    return answer(c, outcome, { node, status: 'retiring' });
  });

  app.post('/:node/write-off', async (c) => {
    const why = reasonIn(await fieldsOf(c));
    if (why === undefined) return answerProblem(c, MISSING_REASON);
    const node = c.req.param('node');
    const { nodes } = await audit.latest();
    const isReachable = nodes.some(
      ({ fault, id, host }) => fault === undefined && (id === node || host === node),
    );
    if (isReachable) return answerProblem(c, problem('still_reachable'));
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
        return answerProblem(c, problem('unknown_node'));
      case 'ambiguous':
        return answerProblem(c, problem('ambiguous_node'));
      case 'done': {
        log.info('node changed by operator', { ...change, user: c.get('user') });
        audit.expire();
        return answerDone(c, change);
      }
      default: {
        const never: never = outcome;
        throw new TypeError(`unknown outcome: ${String(never)}`);
      }
    }
  }
  return app;
}

/** Refuses larger bodies with 413. */
export function limitBody(bytesMax: number): MiddlewareHandler {
  const detail = `a request may have at most ${bytesMax} bytes`;
  return bodyLimit({ maxSize: bytesMax, onError: (c) => answerProblem(c, problem('too_large', detail)) });
}

/** Responds to a change that was made: forms on a page prefer HTML and are led back to the audit; programs get JSON. */
export function answerDone(c: Context, change: Readonly<Record<string, unknown>>): Response {
  if (prefersHtml(c.req)) return c.redirect('/', 303);
  return c.json(change, 202, { ...SAFE_HEADERS, 'Cache-Control': 'no-store' });
}

/** Returns the fields of a form or of JSON; none when the body is neither. */
export async function fieldsOf(c: Context): Promise<Readonly<Record<string, unknown>>> {
  const isJson = c.req.header('content-type')?.startsWith('application/json');
  const body: unknown = await (isJson ? c.req.json() : c.req.parseBody()).catch(() => undefined);
  return typeof body === 'object' && body !== null ? { ...body } : {};
}

/** Returns the reason among the fields; `undefined` when it is missing, blank or too long. */
export function reasonIn({ reason }: Readonly<Record<string, unknown>>): string | undefined {
  if (typeof reason !== 'string') return undefined;
  const text = reason.trim();
  // Postgres cannot store NUL or half of a surrogate pair.
  const isStorable = text.isWellFormed() && !text.includes('\0');
  return text !== '' && text.length <= REASON_CHARACTERS_MAX && isStorable ? text : undefined;
}
