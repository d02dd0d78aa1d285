import { createVoterTokens } from '#handlers/vote/voter.ts';
import type { Vote } from '#job';
import { VOTER_KEY } from '#kit/system.ts';
import { POLL } from '#kit/votes.ts';
import { Secret } from '#runtime/secret.ts';
import type { Random } from './random.ts';

const RESPONSE_MS_MAX = 5_000;
const CHOICES = ['cats', 'dogs'];
/** The share of votes cast by a voter who has voted before. */
const REPEAT_SHARE = 0.3;
/** At least two milliseconds: within one, the clocks of two frontends may disagree on the order of two votes. */
const PAUSE_MS_MIN = 2;
const PAUSE_MS_MAX = 30;
/** Voters who may vote again. The bound makes some of them vote many times. */
const KNOWN_VOTERS_MAX = 2_000;

const tokens = createVoterTokens(new Secret(VOTER_KEY));

/** What the crowd recorded of a voter in one poll. */
export interface Ballot {
  /** The last vote with a 202. */
  accepted: Vote | undefined;
  /** Votes sent after it without a 202. Their outcome is unknown: they may count or not. */
  uncertain: { readonly choice: string; readonly isSkewed: boolean }[];
}

export interface CrowdCounts {
  accepted: number;
  refused: number;
  /** Answered 403 or 404: the poll was closed, or not known yet. */
  closed: number;
  /** The connection broke, or the response took too long. */
  unanswered: number;
}

interface KnownVoter {
  token: string;
  /** By poll. */
  readonly ballots: Map<string, Ballot>;
  isVoting: boolean;
}

export interface CrowdOptions {
  /** Addresses of the frontends. */
  readonly frontends: readonly string[];
  /** Returns the polls to vote on now. */
  readonly polls: () => readonly string[];
  readonly random: Random;
}

/** Simulated people who vote continuously, some repeatedly and on any frontend, and record every 202. */
export class Crowd {
  readonly counts: CrowdCounts = { accepted: 0, refused: 0, closed: 0, unanswered: 0 };
  /** Every ballot with a 202, by poll and voter. */
  readonly ballots = new Map<string, Ballot>();
  /** Frontends whose clock is wrong now. An unanswered vote there may carry a later time than the voter's next one. */
  readonly skewed = new Set<string>();
  /** Descriptions of responses other than 202 and 503, invalid tokens, and units that exited without a fault. */
  readonly unexpected: string[] = [];
  readonly #options: CrowdOptions;
  readonly #known: KnownVoter[] = [];
  #isOver = false;
  #people: Promise<unknown> = Promise.resolve();

  constructor(options: CrowdOptions) {
    this.#options = options;
  }

  start(people: number): void {
    this.#people = Promise.all(Array.from({ length: people }, () => this.#vote()));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#people;
  }

  async #vote(): Promise<void> {
    const { frontends, polls, random } = this.#options;
    while (!this.#isOver) {
      const known = random.next() < REPEAT_SHARE ? this.#pickKnown() : undefined;
      if (known) known.isVoting = true;
      await this.#cast(random.pick(frontends), random.pick(polls()), random.pick(CHOICES), known);
      if (known) known.isVoting = false;
      await new Promise((resolve) => setTimeout(resolve, random.between(PAUSE_MS_MIN, PAUSE_MS_MAX)));
    }
  }

  /** Picks a voter without a vote in flight: a voter waits for the response before voting again. */
  #pickKnown(): KnownVoter | undefined {
    if (this.#known.length === 0) return undefined;
    const voter = this.#options.random.pick(this.#known);
    return voter.isVoting ? undefined : voter;
  }

  async #cast(frontend: string, poll: string, choice: string, known: KnownVoter | undefined): Promise<void> {
    let isSkewed = this.skewed.has(frontend);
    let response: Response;
    try {
      response = await fetch(`${frontend}/polls/${poll}/votes`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(known && { authorization: `Bearer ${known.token}` }),
        },
        body: JSON.stringify({ choice }),
        signal: AbortSignal.timeout(RESPONSE_MS_MAX),
      });
      await response.text();
    } catch {
      isSkewed ||= this.skewed.has(frontend);
      this.counts.unanswered += 1;
      if (known) ballotOf(known, poll).uncertain.push({ choice, isSkewed });
      return;
    }
    isSkewed ||= this.skewed.has(frontend);
    const token = /turnout_voter=([^;]+)/.exec(response.headers.get('set-cookie') ?? '')?.[1];
    if (response.status === 503 && token) {
      this.counts.refused += 1;
      ballotOf(this.#remember(token, known), poll).uncertain.push({ choice, isSkewed });
    } else if (response.status === 202 && token) {
      this.counts.accepted += 1;
      this.#accept(token, poll, choice, this.#remember(token, known));
    } else if ((response.status === 403 || response.status === 404) && poll !== POLL) {
      this.counts.closed += 1;
    } else {
      this.unexpected.push(`unexpected response ${response.status} to a vote on ${poll}`);
    }
  }

  #remember(token: string, known: KnownVoter | undefined): KnownVoter {
    if (known) {
      known.token = token;
      return known;
    }
    const { random } = this.#options;
    const voter: KnownVoter = { token, ballots: new Map(), isVoting: false };
    if (this.#known.length < KNOWN_VOTERS_MAX) this.#known.push(voter);
    else this.#known[Math.floor(random.next() * KNOWN_VOTERS_MAX)] = voter;
    return voter;
  }

  #accept(token: string, poll: string, choice: string, known: KnownVoter): void {
    const voter = tokens.verify(token);
    if (!voter) {
      this.unexpected.push('invalid token in a response');
      return;
    }
    const ballot = ballotOf(known, poll);
    ballot.accepted = [poll, voter.id, choice, voter.lastCastAt];
    // Uncertain votes are older than this one, so they can no longer count, unless their time came from a fast clock.
    ballot.uncertain = ballot.uncertain.filter(({ isSkewed }) => isSkewed);
    this.ballots.set(`${poll} ${voter.id}`, ballot);
  }
}

function ballotOf({ ballots }: KnownVoter, poll: string): Ballot {
  let ballot = ballots.get(poll);
  if (!ballot) {
    ballot = { accepted: undefined, uncertain: [] };
    ballots.set(poll, ballot);
  }
  return ballot;
}
