import type { AnomalyReport, PollAnomalies } from '#audit/anomalies.ts';

export const NOON = Date.UTC(2027, 1, 7, 12);

export const emptyPoll: PollAnomalies = {
  poll: 'best-snack',
  times: {
    votes: 0,
    withoutMintTime: 0,
    delays: Array(8).fill(0),
    minutes: 0,
    medianMinute: null,
    busiest: [],
  },
  bursts: { sizes: Array(4).fill({ milliseconds: 0, voters: 0 }), largest: [] },
  onePollVoters: 0,
};

/** A report of two polls and two nodes. */
export const report: AnomalyReport = {
  asOf: NOON,
  polls: [
    {
      poll: 'cats-vs-dogs',
      times: {
        votes: 1_200,
        withoutMintTime: 200,
        delays: [1, 250, 500, 149, 60, 20, 15, 5],
        minutes: 3,
        medianMinute: 200,
        busiest: [
          { at: NOON - 120_000, votes: 100 },
          { at: NOON - 60_000, votes: 900 },
          { at: NOON, votes: 200 },
        ],
      },
      bursts: {
        sizes: [
          { milliseconds: 40, voters: 90 },
          { milliseconds: 1, voters: 12 },
          { milliseconds: 0, voters: 0 },
          { milliseconds: 0, voters: 0 },
        ],
        largest: [
          { at: NOON - 30_123, voters: 12 },
          { at: NOON - 20_000, voters: 3 },
        ],
      },
      onePollVoters: 1_150,
    },
    emptyPoll,
  ],
  totals: { votes: 1_360, counted: 1_250, changed: 90, superseded: 10, rejected: 10 },
  nodes: [
    { id: 'aaaaaaaaaaaaa', name: 'frontend01', accepted: 700 },
    { id: 'bbbbbbbbbbbbb', name: 'frontend02', accepted: 660 },
  ],
};
