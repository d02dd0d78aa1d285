import { describe, expect, test } from 'vitest';
import { type PollInputs, type PollReport, pollsText, reportPolls } from '#audit/polls.ts';
import { enrolled, NODE, node, OTHER_NODE, pollState } from '#kit/audit-fixtures.ts';

const NOON = Date.UTC(2027, 1, 7, 12);
const CHANGED = NOON - 60_000;
const POLL = 'cats-vs-dogs';
/** A handler that runs on the node since before the change, and one since after it. */
const EARLY = `frontend01-${NODE}.${(CHANGED - 1_000).toString(36)}-a`;
const LATE = `frontend01-${NODE}.${(CHANGED + 1_000).toString(36)}-a`;
const NOTHING = { nodes: [], unsealed: [], uncounted: [], unexplained: [] };

const applied = (revision: number, at = CHANGED + 600) => new Map([[POLL, { revision, at }]]);
const holding = (revision: number, handlers: [string, ReturnType<typeof applied>][] = []) =>
  node({ polls: new Map([[POLL, revision]]), handlers: new Map(handlers) });

function report(inputs: Partial<PollInputs> = {}): PollReport {
  const all = {
    polls: [pollState()],
    awaited: new Map(),
    enrolled: [enrolled()],
    nodes: [holding(3)],
    ...inputs,
  };
  const [poll] = reportPolls(all, NOON);
  if (!poll) throw new Error('no report');
  return poll;
}

test.each([
  [{}, 'open'],
  [{ opensAt: NOON + 1 }, 'not open'],
  [{ closesAt: NOON + 1 }, 'open'],
  [{ closesAt: NOON }, 'closing'],
  [{ closedAt: CHANGED }, 'closed'],
  [{ closedAt: CHANGED, finalAt: NOON }, 'final'],
  [{ closedAt: CHANGED, finalAt: NOON, forgottenAt: NOON }, 'forgotten'],
] as const)('a poll with %j is %s', (state, phase) => {
  expect(report({ polls: [pollState(state)], awaited: new Map([[POLL, NOTHING]]) }).phase).toBe(phase);
});

test.each([
  [{ ...NOTHING, nodes: [NODE] }, 'closing'],
  [{ ...NOTHING, unsealed: [EARLY] }, 'closing'],
  [{ ...NOTHING, uncounted: [EARLY] }, 'closed'],
  [undefined, 'closing'],
])('a closed poll that awaits %j is %s', (awaited, phase) => {
  const waits = new Map(awaited ? [[POLL, awaited]] : []);
  expect(report({ polls: [pollState({ closedAt: CHANGED })], awaited: waits }).phase).toBe(phase);
});

describe('the last change', () => {
  test('is taken once all nodes in use and all handlers that run have it, and how long it took', () => {
    const nodes = [
      holding(3, [
        [EARLY, applied(3)],
        [LATE, applied(3, NOON)],
      ]),
    ];
    expect(report({ nodes })).toMatchObject({
      nodes: { taken: 1, of: 1, missing: [] },
      handlers: { taken: 2, of: 2, missing: [] },
      takenMs: 600,
    });
  });

  test('took as long as the clock of Postgres says, however wrong that of the node is', () => {
    const nodes = [holding(3, [[EARLY, applied(3, CHANGED - 4_300)]])];
    expect(report({ nodes, enrolled: [enrolled({ clockSkewMs: -5_000 })] }).takenMs).toBe(700);
  });

  test('is not taken by nodes that hold less or cannot be read, nor by handlers that have applied less or nothing', () => {
    const other = enrolled({ id: OTHER_NODE, name: 'frontend02' });
    const nodes = [
      holding(2, [
        [EARLY, applied(2)],
        [LATE, new Map()],
      ]),
    ];
    expect(report({ nodes, enrolled: [enrolled(), other] })).toMatchObject({
      nodes: { taken: 0, of: 2, missing: [`frontend01 (${NODE})`, `frontend02 (${OTHER_NODE})`] },
      handlers: { taken: 0, of: 2, missing: [EARLY, LATE] },
      takenMs: null,
    });
  });

  test.each(['retired', 'retiring', 'written off'] as const)(
    'does not wait for a node that is %s',
    (state) => {
      expect(report({ enrolled: [enrolled(), enrolled({ id: OTHER_NODE, state })] }).nodes).toMatchObject({
        of: 1,
      });
    },
  );

  test('does not count the last known handlers of a node that cannot be read', () => {
    const down = { ...holding(3, [[EARLY, applied(3)]]), fault: 'connection lost' };
    expect(report({ nodes: [down] }).handlers.of).toBe(0);
  });
});

test('the text names state, times, takers and the last change', () => {
  const done = report({
    polls: [pollState({ closesAt: NOON + 1_000, results: 'closed' })],
    nodes: [holding(3, [[EARLY, applied(3)]])],
  });
  const behind = report({
    polls: [pollState({ id: 'b', isHidden: true, isListed: false, opensAt: NOON + 1, change: null })],
    nodes: [holding(3, [[EARLY, applied(3)]])],
  });
  expect(pollsText([done, behind])).toBe(`cats-vs-dogs  open, revision 3
  closes 2027-02-07 12:00:01 UTC, embargoed until it is final
  Taken by 1 of 1 nodes and 1 of 1 handlers, within 0.6 s.
  Last change 2027-02-07 11:59:00 UTC by ada: open (the host talks).
b  not open, revision 3, hidden, not in the polls file
  opens 2027-02-07 12:00:00 UTC
  Taken by 0 of 1 nodes and 0 of 1 handlers; not yet by frontend01 (${NODE}), ${EARLY}.
  No change is recorded.`);
});

test('what an operator wrote stays in its line, without control characters', () => {
  const change = { at: CHANGED, who: 'ada', what: 'open', why: 'x\nb  open\u001b[2J' };
  expect(pollsText([report({ polls: [pollState({ change })] })])).toContain('(x b  open [2J).');
});

test('the text names ten of many that are behind', () => {
  const handlers = Array.from({ length: 12 }, (_, index): [string, ReturnType<typeof applied>] => [
    `${EARLY}${index}`,
    applied(2),
  ]);
  expect(pollsText([report({ nodes: [holding(3, handlers)] })])).toContain(`${EARLY}9 and 2 more.`);
});
