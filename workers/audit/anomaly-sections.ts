import { BURST_VOTERS } from '#db/anomalies.ts';
import type { AnomalyReport, PollAnomalies } from './anomalies.ts';
import { count, NUMBER, nodeLabel } from './report.ts';

const SECONDS_PER_MINUTE = 60;

/** A table with what its numbers mean: facts, what would be unusual, and what explains it innocently. */
export interface AnomalySection {
  readonly title: string;
  readonly facts: string;
  /** Absent without rows. */
  readonly unusual?: string;
  readonly innocent?: string;
  readonly heading: readonly string[];
  /** The first column is text, the others are numbers. */
  readonly rows: readonly (readonly string[])[];
}

/** The sections of one poll, or of all polls together. */
export interface AnomalyChapter {
  readonly title: string;
  readonly sections: readonly AnomalySection[];
}

/** Returns the report in words and tables, for the page and for the command. */
export function anomalyChapters(report: AnomalyReport): AnomalyChapter[] {
  return [
    ...report.polls.map((poll) => ({ title: `Poll ${poll.poll}`, sections: pollSections(poll) })),
    { title: 'All polls', sections: [repeatSection(report), nodeSection(report)] },
  ];
}

function pollSections(poll: PollAnomalies): AnomalySection[] {
  if (poll.times.votes === 0) {
    return [{ title: 'Votes', facts: 'No votes are stored for this poll.', heading: [], rows: [] }];
  }
  return [
    delaySection(poll),
    minuteSection(poll),
    ...burstSections(poll),
    ...(poll.onePollVoters === null ? [] : [onePollSection(poll, poll.onePollVoters)]),
  ];
}

/** One per class of `VoteTimes.delays`. */
const DELAY_WORDS = [
  'before the mint',
  'under 1 second',
  '1 to 10 seconds',
  '10 seconds to 1 minute',
  '1 to 10 minutes',
  '10 minutes to 1 hour',
  '1 hour to 1 day',
  '1 day or more',
];

function delaySection({ times: { votes, withoutMintTime, delays } }: PollAnomalies): AnomalySection {
  const minted = votes - withoutMintTime;
  return {
    title: 'Time from mint to vote',
    facts:
      `The id of ${count(minted, 'voter')} holds the time at which it was minted. ` +
      `Left out: ${count(withoutMintTime, 'voter')} with an id from an idempotency key or a login. ` +
      'The vote is the last one of each voter.',
    unusual:
      'most votes under a second after the mint, or one class that other polls with the same audience do not have.',
    innocent:
      'a program that sends no token is minted with its first vote; a cookie from an earlier visit is old; ' +
      'a vote before the mint means that the clocks of two nodes differ.',
    heading: ['Time', 'Votes', 'Share'],
    rows: delays.map((number, i) => [DELAY_WORDS[i] ?? '', NUMBER.format(number), share(number, minted)]),
  };
}

function minuteSection({ times: { votes, minutes, medianMinute, busiest } }: PollAnomalies): AnomalySection {
  const most = Math.max(...busiest.map((minute) => minute.votes));
  return {
    title: 'Votes a second by minute',
    facts:
      `${count(votes, 'vote')} in ${count(minutes, 'minute')}. Of the minutes with votes, the median has ` +
      `${perSecond(medianMinute ?? 0)} votes a second and the busiest ${perSecond(most)}. ` +
      'The busiest minutes are listed in order of time; a changed vote is in the minute of its last change.',
    unusual: 'a minute far above those around it, or a rate that stays exactly the same.',
    innocent: 'a call to vote on air, a link that spreads, the last minute before the close.',
    heading: ['Minute (UTC)', 'Votes', 'Votes a second'],
    rows: busiest.map(({ at, votes: number }) => [
      timeOf(at).slice(0, 16),
      NUMBER.format(number),
      perSecond(number),
    ]),
  };
}

function burstSections({ bursts: { sizes, largest } }: PollAnomalies): AnomalySection[] {
  return [
    {
      title: 'Voter ids minted within one millisecond',
      facts: 'Milliseconds in which several voters of this poll were minted.',
      unusual: 'many ids in one millisecond at a time when few people vote.',
      innocent:
        'at 10,000 new voters a second, each millisecond has ten; a busy handler answers the requests that wait for it at once.',
      heading: ['Voters in one millisecond', 'Milliseconds', 'Voters'],
      rows: sizes.map(({ milliseconds, voters }, i) => [
        rangeOf(i),
        NUMBER.format(milliseconds),
        NUMBER.format(voters),
      ]),
    },
    ...(largest.length === 0
      ? []
      : [
          {
            title: 'The largest of these milliseconds',
            facts: 'Compare each with the votes of its minute.',
            heading: ['Millisecond (UTC)', 'Voters'],
            rows: largest.map(({ at, voters }) => [timeOf(at), NUMBER.format(voters)]),
          },
        ]),
  ];
}

function rangeOf(index: number): string {
  const from = BURST_VOTERS[index] ?? 0;
  const next = BURST_VOTERS[index + 1];
  return next === undefined
    ? `${NUMBER.format(from)} or more`
    : `${NUMBER.format(from)} to ${NUMBER.format(next - 1)}`;
}

function onePollSection({ times: { votes } }: PollAnomalies, onePollVoters: number): AnomalySection {
  return {
    title: 'Voters of one poll',
    facts: 'Voters of this poll by whether they also voted in another one.',
    unusual: 'nearly all voters in one poll only, while those of other polls voted in several.',
    innocent:
      'the polls ran at different times, a link led to this poll only, or browsers deleted their cookies in between.',
    heading: ['Voted in', 'Voters', 'Share'],
    rows: [
      ['this poll only', NUMBER.format(onePollVoters), share(onePollVoters, votes)],
      [
        'another poll too',
        NUMBER.format(Math.max(0, votes - onePollVoters)),
        share(votes - onePollVoters, votes),
      ],
    ],
  };
}

/** `counted` has one vote per voter and poll, and every vote beyond it is a further one of a voter in it. */
function repeatSection({ totals }: AnomalyReport): AnomalySection {
  const once = Math.max(0, totals.counted - totals.changed - totals.superseded);
  return {
    title: 'First and changed votes',
    facts:
      `At least ${NUMBER.format(once)} of ${count(totals.counted, 'voter')} (${share(once, totals.counted)}) voted once; ` +
      'a voter of several polls counts in each. How often each voter changed the vote is not kept.',
    unusual: 'a share of changed votes far from that of earlier polls.',
    innocent:
      'people change their mind, try whether that works, or send the form again on a slow connection.',
    heading: ['Committed votes', 'Votes', 'Share'],
    rows: (
      [
        ['first vote of a voter', totals.counted],
        ['changed an earlier vote', totals.changed],
        ['older than the stored vote', totals.superseded],
        ['rejected', totals.rejected],
      ] as const
    ).map(([what, number]) => [what, NUMBER.format(number), share(number, totals.votes)]),
  };
}

function nodeSection({ nodes }: AnomalyReport): AnomalySection {
  const all = nodes.reduce((sum, { accepted }) => sum + accepted, 0);
  return {
    title: 'Votes by node',
    facts: `${count(all, 'accepted vote')} on ${count(nodes.length, 'node')}, first and changed ones. Votes by node and minute are not stored; the metric turnout_votes_captured_total of each handler shows them.`,
    unusual: 'a node with far more than its share while the others ran as long.',
    innocent: 'it was enrolled earlier or retired later, or the load balancer keeps each client on one node.',
    heading: ['Node', 'Votes', 'Share'],
    rows: nodes.map((node) => [nodeLabel(node), NUMBER.format(node.accepted), share(node.accepted, all)]),
  };
}

function share(part: number, whole: number): string {
  return whole === 0 ? '–' : `${((100 * Math.max(0, part)) / whole).toFixed(1)} %`;
}

function perSecond(votes: number): string {
  return (votes / SECONDS_PER_MINUTE).toLocaleString('en-US', {
    minimumFractionDigits: 1,
    maximumFractionDigits: 1,
  });
}

function timeOf(at: number): string {
  return new Date(at).toISOString().replace('T', ' ').replace('Z', '');
}
