import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { closePoll, extendPoll, forgetPoll, openPoll, setEmbargo } from '#db/control.ts';
import { finalizePoll } from '#db/final.ts';
import { readPollStates } from '#db/poll-states.ts';
import { applyPollsFile, closeDuePolls, readStoredPolls } from '#db/polls.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';

const SHOW = 'show';
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const OPERATOR = { who: 'ada', why: 'the host says "now"' };
const CHOICES = [
  { id: 'yes', label: 'Yes' },
  { id: 'no', label: 'No' },
];

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.remove());
beforeEach(async () => {
  for (const table of ['polls_files', 'choices', 'polls', 'operator_actions', 'votes', 'tallies'] as const) {
    await database.db.deleteFrom(table).execute();
  }
});

/** Declares the poll, at revision 1. */
const declare = (times: { opensAt?: number; closesAt?: number; hidden?: boolean } = {}) =>
  applyPollsFile(database.db, {
    version: 1,
    polls: [{ id: SHOW, question: 'Now?', choices: CHOICES, ...times }],
  });
const stored = async () => (await readStoredPolls(database.db)).find(({ id }) => id === SHOW);
const state = async () => (await readPollStates(database.db)).find(({ id }) => id === SHOW);
const actions = () =>
  database.db.selectFrom('operator_actions').selectAll().where('who', '=', 'ada').execute();

/** Closes the poll at its present revision and makes it final. No node has a vote. */
async function finalize(): Promise<void> {
  await database.db.updateTable('polls').set({ closed_at: new Date() }).execute();
  expect(await finalizePoll(database.db, SHOW)).toBe(true);
}

const CHANGES = [
  ['open', () => openPoll(database.db, SHOW, OPERATOR)],
  ['close', () => closePoll(database.db, SHOW, OPERATOR)],
  ['extend', () => extendPoll(database.db, SHOW, { minutes: 5 }, OPERATOR)],
  ['embargo', () => setEmbargo(database.db, SHOW, 'closed', OPERATOR)],
  ['forget', () => forgetPoll(database.db, SHOW, OPERATOR)],
] as const;

describe('closing', () => {
  test('makes a new revision that begins as closed, at once and once', async () => {
    await declare({ closesAt: Date.now() + HOUR_MS });
    const before = Date.now();
    expect(await closePoll(database.db, SHOW, OPERATOR)).toEqual({ outcome: 'done' });
    const poll = await stored();
    expect(poll).toMatchObject({ revision: 2, isClosed: true });
    expect(Math.abs((poll?.closesAt ?? 0) - before)).toBeLessThan(MINUTE_MS);
    expect(await closePoll(database.db, SHOW, OPERATOR)).toEqual({
      outcome: 'unchanged',
      reason: 'it has closed',
    });
    expect(await stored()).toEqual(poll);
    expect(await actions()).toMatchObject([{ ...OPERATOR, what: 'close', poll: SHOW }]);
    expect(await state()).toMatchObject({ change: { ...OPERATOR, what: 'close' } });
  });

  test('leaves a poll alone whose time to close has passed, so that its seals keep counting', async () => {
    await declare({ closesAt: Date.now() - 1 });
    expect(await closePoll(database.db, SHOW, OPERATOR)).toMatchObject({ outcome: 'unchanged' });
    await closeDuePolls(database.db);
    expect(await closePoll(database.db, SHOW, OPERATOR)).toMatchObject({ outcome: 'unchanged' });
    expect(await stored()).toMatchObject({ revision: 1, isClosed: true });
  });
});

describe('opening', () => {
  test('opens a poll before its time, without a time that handlers would compare with their clocks', async () => {
    const closesAt = Date.now() + 2 * HOUR_MS;
    await declare({ opensAt: Date.now() + HOUR_MS, closesAt });
    expect(await openPoll(database.db, SHOW, OPERATOR)).toEqual({ outcome: 'done' });
    const poll = await stored();
    expect(poll).toMatchObject({ revision: 2, isClosed: false, closesAt });
    expect(poll?.opensAt).toBeUndefined();
    expect(await openPoll(database.db, SHOW, OPERATOR)).toEqual({
      outcome: 'unchanged',
      reason: 'it is open',
    });
  });

  test('opens a closed poll again, until it is closed', async () => {
    await declare({ closesAt: Date.now() - 1 });
    await closeDuePolls(database.db);
    expect(await openPoll(database.db, SHOW, OPERATOR)).toEqual({ outcome: 'done' });
    expect(await closeDuePolls(database.db)).toEqual([]);
    const poll = await stored();
    expect(poll).toMatchObject({ revision: 2, isClosed: false });
    expect(poll?.closesAt).toBeUndefined();
  });
});

describe('extending', () => {
  test('moves the time to close by minutes', async () => {
    const closesAt = Date.now() + HOUR_MS;
    await declare({ closesAt });
    expect(await extendPoll(database.db, SHOW, { minutes: 5 }, OPERATOR)).toEqual({ outcome: 'done' });
    expect(await stored()).toMatchObject({ revision: 2, closesAt: closesAt + 5 * MINUTE_MS });
    expect(await actions()).toMatchObject([
      { what: `extend to ${new Date(closesAt + 5 * MINUTE_MS).toISOString()}` },
    ]);
  });

  test('opens a closed poll again, for minutes from now', async () => {
    await declare({ closesAt: 1 });
    await closeDuePolls(database.db);
    const before = Date.now();
    await extendPoll(database.db, SHOW, { minutes: 5 }, OPERATOR);
    const poll = await stored();
    expect(poll).toMatchObject({ revision: 2, isClosed: false });
    expect(Math.abs((poll?.closesAt ?? 0) - before - 5 * MINUTE_MS)).toBeLessThan(MINUTE_MS);
  });

  test('opens a closed poll again, also to the same time', async () => {
    const closesAt = Date.now() + HOUR_MS;
    await declare({ closesAt });
    expect(await extendPoll(database.db, SHOW, { closesAt }, OPERATOR)).toMatchObject({
      outcome: 'unchanged',
    });
    await database.db.updateTable('polls').set({ closed_at: new Date() }).execute();
    expect(await extendPoll(database.db, SHOW, { closesAt }, OPERATOR)).toEqual({ outcome: 'done' });
    expect(await stored()).toMatchObject({ revision: 2, isClosed: false, closesAt });
  });

  test.each<[string, { opensAt?: number; closesAt?: number }, Parameters<typeof extendPoll>[2], string]>([
    ['to a time in the past', {}, { closesAt: Date.now() - 1 }, 'the new time to close has passed'],
    ['to the present', {}, { closesAt: 0 }, 'the new time to close has passed'],
    ['by minutes without a time to close', {}, { minutes: 5 }, 'it has no time to close'],
    ['to a time years away', {}, { closesAt: Date.now() + 400 * 24 * HOUR_MS }, 'over a year away'],
    ['to no number', {}, { closesAt: Number.NaN }, 'the new time to close has passed'],
    [
      'to a time before it opens',
      { opensAt: Date.now() + 2 * HOUR_MS },
      { closesAt: Date.now() + HOUR_MS },
      'it would close before it opens',
    ],
  ])('is refused %s', async (_, times, extension, reason) => {
    await declare(times);
    expect(await extendPoll(database.db, SHOW, extension, OPERATOR)).toEqual({
      outcome: 'invalid',
      reason: expect.stringContaining(reason),
    });
    expect(await stored()).toMatchObject({ revision: 1 });
    expect(await actions()).toEqual([]);
  });
});

test('a poll that a file has withdrawn is neither opened nor extended', async () => {
  await declare({ closesAt: Date.now() + HOUR_MS });
  await applyPollsFile(database.db, {
    version: 2,
    polls: [{ id: 'other', question: 'And now?', choices: CHOICES }],
  });
  const refused = { outcome: 'invalid', reason: expect.stringContaining('not in the polls file') };
  expect(await openPoll(database.db, SHOW, OPERATOR)).toEqual(refused);
  expect(await extendPoll(database.db, SHOW, { minutes: 5 }, OPERATOR)).toEqual(refused);
  expect(await stored()).toMatchObject({ isClosed: true });
});

test('an embargo raises the revision, and keeps a closed poll closed', async () => {
  await declare({ closesAt: 1 });
  await closeDuePolls(database.db);
  expect(await setEmbargo(database.db, SHOW, 'closed', OPERATOR)).toEqual({ outcome: 'done' });
  expect(await stored()).toMatchObject({ revision: 2, isClosed: true, results: 'closed' });
  expect(await setEmbargo(database.db, SHOW, 'closed', OPERATOR)).toMatchObject({ outcome: 'unchanged' });
});

test.each(CHANGES)('to %s an unknown poll is refused', async (_, change) => {
  expect(await change()).toEqual({ outcome: 'unknown', reason: 'no poll has this id' });
  expect(await actions()).toEqual([]);
});

describe('a final poll', () => {
  test.each(CHANGES)('does not change its state: %s', async (what, change) => {
    await declare();
    await finalize();
    const before = await stored();
    const { outcome } = await change();
    expect(outcome).toBe(
      { open: 'final', close: 'unchanged', extend: 'final', embargo: 'final', forget: 'done' }[what],
    );
    expect(await stored()).toEqual({ ...before, ...(what === 'forget' && { isForgotten: true }) });
  });

  test('is forgotten once, and only then', async () => {
    await declare();
    expect(await forgetPoll(database.db, SHOW, OPERATOR)).toMatchObject({ outcome: 'invalid' });
    await finalize();
    expect(await forgetPoll(database.db, SHOW, OPERATOR)).toEqual({ outcome: 'done' });
    expect(await forgetPoll(database.db, SHOW, OPERATOR)).toMatchObject({ outcome: 'unchanged' });
    expect(await state()).toMatchObject({ forgottenAt: expect.any(Number) });
  });

  test('disappears when it is hidden and forgotten', async () => {
    await declare({ hidden: true });
    await finalize();
    await forgetPoll(database.db, SHOW, OPERATOR);
    expect(await state()).toBeUndefined();
    expect(await openPoll(database.db, SHOW, OPERATOR)).toMatchObject({ outcome: 'unknown' });
  });
});

test('of an extension and finality at the same time, one wins and the other respects it', async () => {
  for (let round = 0; round < 10; round += 1) {
    await database.db.deleteFrom('polls_files').execute();
    await database.db.deleteFrom('choices').execute();
    await database.db.deleteFrom('polls').execute();
    await declare({ closesAt: 1 });
    await closeDuePolls(database.db);
    const [isFinal, { outcome }] = await Promise.all([
      finalizePoll(database.db, SHOW),
      extendPoll(database.db, SHOW, { minutes: 5 }, OPERATOR),
    ]);
    expect([isFinal, outcome]).toEqual(isFinal ? [true, 'final'] : [false, 'done']);
    expect((await stored())?.isClosed).toBe(isFinal);
  }
});

test('operators at the same time wait for each other, and each change has a revision of its own', async () => {
  await declare({ closesAt: Date.now() + HOUR_MS });
  await Promise.all([1, 2, 3, 4].map((minutes) => extendPoll(database.db, SHOW, { minutes }, OPERATOR)));
  expect(await stored()).toMatchObject({ revision: 5 });
  expect(await actions()).toHaveLength(4);
});
