import type { PollResult, Results } from '#db/results.ts';

/** Results of one open poll with 2 to 1 votes, all committed. */
export function someResults(changes: Partial<Results> = {}): Results {
  return {
    polls: [
      {
        poll: 'cats-vs-dogs',
        question: 'Cats or dogs?',
        choices: [
          { id: 'cats', label: 'Cats', votes: 2 },
          { id: 'dogs', label: 'Dogs', votes: 1 },
        ],
        isHidden: false,
        presentation: {},
        finalAt: null,
        writtenOff: [],
        writtenOffJobs: [],
      },
    ],
    ledger: { accepted: 3, committed: 3 },
    ...changes,
  };
}

/** The same results, with changes of the poll. */
export function resultsOf(poll: Partial<PollResult>): Results {
  const results = someResults();
  return { ...results, polls: results.polls.map((each) => ({ ...each, ...poll })) };
}
