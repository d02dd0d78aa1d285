import { Hono } from 'hono';
import { expect } from 'vitest';
import { reconcile } from '#audit/reconcile.ts';
import type { ControlOutcome } from '#db/control.ts';
import type { NodeRequestOutcome } from '#db/nodes.ts';
import type { WriteOffOutcome } from '#db/write-off.ts';
import { createDashboardApp } from '#handlers/dashboard/app.ts';
import type { AnomalyOutcome } from '#handlers/dashboard/live-anomalies.ts';
import type { LiveReport } from '#handlers/dashboard/live-audit.ts';
import { jobKey } from '#job';
import { audit, enrolled, node, SOURCE } from '#kit/audit-fixtures.ts';
import { recordLog } from '#kit/log.ts';
import { parseUser } from '#runtime/users.ts';

const USERS = new Map(
  ['sre:pass:wörd1', 'viewer/guest:only-looks'].map((entry) => parseUser(entry) ?? expect.fail(entry)),
);
export const NOON = Date.UTC(2027, 1, 7, 12);

export const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
/** The headers of an operator. */
export const KNOWN = { Authorization: basic('sre:pass:wörd1') };
/** The headers of someone who only looks. */
export const VIEWER = { Authorization: basic('guest:only-looks') };

interface Change {
  readonly what: 'retire' | 'write off' | 'write off jobs';
  /** The node's id or name, or the keys of the jobs. */
  readonly node: string;
  readonly who: string;
  readonly why: string;
}

/** An app with one node and one pending job; `made` and `pollChanges` are the changes requested. */
export function createApp(
  changes: Partial<LiveReport> = {},
  outcome: NodeRequestOutcome = 'done',
  jobsOutcome: WriteOffOutcome = { outcome: 'done' },
  anomalies: AnomalyOutcome = { fault: 'too slow' },
  pollOutcome: ControlOutcome = { outcome: 'done' },
) {
  const nodes = [node({ seqs: { [SOURCE]: 3 }, queued: [3] })];
  const report: LiveReport = {
    asOf: NOON,
    reconciledAt: NOON,
    nodes,
    rows: reconcile({ nodes, audits: [audit(2)], knownBefore: new Set() }),
    foreign: [],
    enrolled: [enrolled()],
    awaited: new Map(),
    polls: [],
    postgresFault: undefined,
    ...changes,
  };
  const made: Change[] = [];
  const change = (what: Change['what']) => async (node: string, request: { who: string; why: string }) => {
    made.push({ what, node, ...request });
    return outcome;
  };
  const pollChanges: unknown[] = [];
  const changePoll =
    (action: string) =>
    async (...change: readonly unknown[]) => {
      pollChanges.push([action, ...change]);
      return pollOutcome;
    };
  let expiries = 0;
  const app = createDashboardApp({
    users: USERS,
    audit: {
      latest: async () => report,
      expire: () => {
        expiries += 1;
      },
    },
    anomalies: { latest: async () => anomalies },
    board: new Hono().all('*', (c) => c.text('the board')),
    retire: change('retire'),
    writeOff: change('write off'),
    writeOffJobs: async (jobs, request) => {
      const keys = jobs.map(({ source, seq }) => jobKey(source, seq));
      await change('write off jobs')(keys.join(' '), request);
      return jobsOutcome;
    },
    control: {
      open: changePoll('open'),
      close: changePoll('close'),
      extend: changePoll('extend'),
      embargo: changePoll('embargo'),
      forget: changePoll('forget'),
    },
    log: recordLog().log,
  });
  return Object.assign(app, { made, pollChanges, expiries: () => expiries });
}
