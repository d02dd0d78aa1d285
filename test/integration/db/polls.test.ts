import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { commitBatches } from '#db/commit.ts';
import { closePoll, extendPoll } from '#db/control.ts';
import { readPollStates } from '#db/poll-states.ts';
import { addHiddenPoll, adoptPolls, applyPollsFile, closeDuePolls, readStoredPolls } from '#db/polls.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { storedTallies } from '#kit/tables.ts';
import { batch, vote } from '#kit/votes.ts';

const OPERATOR = { who: 'ada', why: 'the host talks' };
const A = { id: 'a', question: 'A?', choices: [choice('yes'), choice('no')] };
const B = { id: 'b', question: 'B?', choices: [choice('yes'), choice('no')] };

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.remove());
beforeEach(async () => {
  for (const table of [
    'polls_files',
    'choices',
    'polls',
    'tallies',
    'votes',
    'receipts',
    'operator_actions',
  ] as const) {
    await database.db.deleteFrom(table).execute();
  }
});

function choice(id: string) {
  return { id, label: id.toUpperCase() };
}

const apply = (version: number, polls: Parameters<typeof applyPollsFile>[1]['polls']) =>
  applyPollsFile(database.db, { version, polls });
const stored = async () => new Map((await readStoredPolls(database.db)).map((poll) => [poll.id, poll]));

test('a file creates polls, and changes only those that differ from the last file', async () => {
  expect(await apply(1, [A, B])).toBe('applied');
  expect(await apply(2, [A, { ...B, question: 'B, really?' }])).toBe('applied');
  const polls = await stored();
  expect(polls.get('a')).toEqual({
    ...A,
    position: 0,
    revision: 1,
    isClosed: false,
    results: 'live',
    hidden: false,
  });
  expect(polls.get('b')).toMatchObject({ question: 'B, really?', revision: 2 });
});

test('what a file says of results, retention and presentation is stored', async () => {
  const options = {
    results: 'closed',
    hidden: true,
    retainVotesDays: 30,
    lang: 'pt-BR',
    texts: { thanks: 'Obrigado!' },
    colours: { light: '#4a3bc4', dark: '#b1a5ff' },
  } as const;
  await apply(1, [{ ...A, ...options }]);
  expect((await stored()).get('a')).toMatchObject(options);
  await apply(2, [A]);
  const without = (await stored()).get('a');
  expect(without).toMatchObject({ results: 'live', hidden: false, revision: 2 });
  expect(Object.keys(without ?? {})).not.toContain('texts');
});

test('an older file changes nothing, whichever worker reads it', async () => {
  const closesAt = Date.now() + 3_600_000;
  await apply(2, [{ ...A, closesAt }]);
  expect(await apply(1, [{ ...A, closesAt: 1 }])).toBe('older');
  expect((await stored()).get('a')).toMatchObject({ closesAt, revision: 1, isClosed: false });
});

test('the same version with other content is refused', async () => {
  await apply(1, [A]);
  expect(await apply(1, [A])).toBe('unchanged');
  expect(await apply(1, [{ ...A, question: 'Other?' }])).toBe('conflict');
  expect((await stored()).get('a')).toMatchObject({ question: 'A?', revision: 1 });
});

test('a poll that is missing from a newer file is closed and hidden, and its votes stay', async () => {
  await apply(1, [A, B]);
  await commitBatches(database.db, [batch(1, [vote(1, 'yes', 0, 'b')])], 1);
  await apply(2, [A]);
  expect((await stored()).get('b')).toMatchObject({ position: null, isClosed: true, revision: 2 });
  expect(await storedTallies(database.db)).toEqual(new Map([['b yes', 1]]));
});

test('a choice without votes may go, and one that has votes only in a queue keeps its number for them', async () => {
  const c = { ...A, id: 'c' };
  await apply(1, [c]);
  await apply(2, [{ ...c, choices: [choice('yes'), choice('maybe')] }]);
  expect((await stored()).get('c')?.choices.map(({ id }) => id)).toEqual(['yes', 'maybe']);
  await commitBatches(database.db, [batch(2, [vote(1, 'no', 0, 'c')])], 1);
  expect((await storedTallies(database.db)).get('c no')).toBe(1);
});

test('a file with changes that must not be is refused as a whole, with every fault', async () => {
  await apply(1, [A, B, { ...A, id: 'c', closesAt: 1 }]);
  await commitBatches(database.db, [batch(3, [vote(1, 'no', 0, 'a'), vote(2, 'yes', 0, 'b')])], 1);
  await closeDuePolls(database.db);
  await database.db
    .updateTable('polls')
    .set({ final_at: new Date(), result: '{}' })
    .where('id', '=', 'c')
    .execute();
  const others = [choice('maybe'), choice('never')];
  const file = [
    { ...A, choices: [choice('yes'), choice('maybe')] },
    { ...B, choices: others },
  ];
  expect(
    await apply(2, [...file, { ...A, id: 'c', closesAt: Date.now() + 60_000 }, { ...A, id: 'd' }]),
  ).toEqual({
    refused: [
      'choice no of poll a has votes and must stay',
      'choice yes of poll b has votes and must stay',
      'poll c is final, so its opensAt and closesAt must stay as in the last file',
    ],
  });
  expect([...(await stored()).values()].map(({ id, revision }) => [id, revision])).toEqual([
    ['a', 1],
    ['b', 1],
    ['c', 1],
  ]);
  expect(await apply(2, [A, B, { ...A, id: 'c', closesAt: 1 }, { ...A, id: 'd' }])).toBe('applied');
});

test('what an operator changed stays unless a newer file changes the same field', async () => {
  const closesAt = Date.now() + 3_600_000;
  await apply(1, [{ ...A, closesAt }, B]);
  const until = closesAt + 60_000;
  await extendPoll(database.db, 'a', { closesAt: until }, OPERATOR);
  await closePoll(database.db, 'b', OPERATOR);
  await apply(2, [
    { ...A, closesAt, question: 'A, really?' },
    { ...B, question: 'B, really?' },
  ]);
  const changed = await stored();
  expect(changed.get('a')).toMatchObject({
    question: 'A, really?',
    closesAt: until,
    isClosed: false,
    revision: 3,
  });
  expect(changed.get('b')).toMatchObject({ question: 'B, really?', isClosed: true, revision: 3 });
  await apply(3, [
    { ...A, closesAt: closesAt + 1 },
    { ...B, closesAt },
  ]);
  expect((await stored()).get('a')).toMatchObject({ closesAt: closesAt + 1 });
  expect((await stored()).get('b')).toMatchObject({ isClosed: false });
});

test('a file that moves a close into the past closes the poll with the new revision', async () => {
  await apply(1, [A, B]);
  await apply(2, [{ ...A, closesAt: Date.now() - 1_000 }, B]);
  expect((await stored()).get('a')).toMatchObject({ isClosed: true, revision: 2 });
});

test('each change of a poll is recorded with the file that made it', async () => {
  await apply(1, [A, B]);
  await apply(2, [A, { ...B, question: 'B, really?' }]);
  await apply(3, [A]);
  const changes = new Map((await readPollStates(database.db)).map(({ id, change }) => [id, change]));
  expect(changes.get('a')).toMatchObject({ who: 'polls file', what: 'apply version 1', why: 'first file' });
  expect(changes.get('b')).toMatchObject({ what: 'apply version 3', why: 'differs from version 2' });
});

test('a scheduled close does not raise the revision, an extension does and opens the poll again', async () => {
  await apply(1, [{ ...A, closesAt: Date.now() - 1_000 }, B]);
  expect(await closeDuePolls(database.db)).toEqual(['a']);
  expect(await closeDuePolls(database.db)).toEqual([]);
  expect((await stored()).get('a')).toMatchObject({ isClosed: true, revision: 1 });
  await apply(2, [{ ...A, closesAt: Date.now() + 60_000 }, B]);
  expect((await stored()).get('a')).toMatchObject({ isClosed: false, revision: 2 });
});

test('a final poll does not change', async () => {
  await apply(1, [A]);
  await database.db
    .updateTable('polls')
    .set({ closed_at: new Date(), final_at: new Date(), result: '{}' })
    .execute();
  expect(await apply(2, [{ ...A, question: 'Again?' }])).toBe('applied');
  const [poll] = await readStoredPolls(database.db);
  expect(poll).toMatchObject({ question: 'A?', isClosed: true, revision: 1 });
  expect(await adoptPolls(database.db, [{ ...A, revision: 9, isClosed: false, position: 0 }])).toEqual([]);
});

test('higher revisions and unknown polls are adopted from nodes, lower ones are not', async () => {
  await apply(1, [A]);
  const adopted = await adoptPolls(database.db, [
    { ...A, question: 'Newer?', revision: 3, isClosed: true, position: 0 },
    { ...B, revision: 2, isClosed: false, position: 1 },
  ]);
  expect(adopted).toEqual(['a', 'b']);
  expect(await adoptPolls(database.db, [{ ...A, revision: 2, isClosed: false, position: 0 }])).toEqual([]);
  const polls = await stored();
  expect(polls.get('a')).toMatchObject({ question: 'Newer?', revision: 3, isClosed: true });
  expect(polls.get('b')).toMatchObject({ revision: 2, isClosed: false });
  const [state] = await readPollStates(database.db);
  expect(state?.change).toMatchObject({ who: 'worker', what: 'adopt revision 3' });
});

test('a poll of a rehearsal is hidden, and polls files leave it alone', async () => {
  await apply(1, [A]);
  const closesAt = Date.now() + 60_000;
  expect(await addHiddenPoll(database.db, { ...B, closesAt }, OPERATOR)).toBe(true);
  const added = (await stored()).get('b');
  expect(added).toMatchObject({ ...B, closesAt, hidden: true, isClosed: false, revision: 1, position: 1 });
  await apply(2, [{ ...A, question: 'A, really?' }]);
  expect((await stored()).get('b')).toEqual(added);
  expect(await addHiddenPoll(database.db, { ...A, closesAt }, OPERATOR)).toBe(false);
  expect((await stored()).get('a')).toMatchObject({ question: 'A, really?', hidden: false });
  expect((await readPollStates(database.db)).find(({ id }) => id === 'b')).toMatchObject({
    isHidden: true,
    isListed: true,
    change: { ...OPERATOR, what: 'add' },
  });
});
