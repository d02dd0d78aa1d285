import { createVoterTokens } from '#handlers/vote/voter.ts';
import type { Vote } from '#job';
import { VOTER_KEY } from '#kit/system.ts';
import { POLL } from '#kit/votes.ts';
import { Secret } from '#runtime/secret.ts';
import type { Random } from './random.ts';

const ANSWER_MS_MAX = 5_000;
const CHOICES = ['cats', 'dogs'];
/** How often a vote is a known voter's who votes again. */
const AGAIN_SHARE = 0.3;
/** At least two milliseconds: within one, the clocks of two frontends may disagree about what came first. */
const PAUSE_MS_MIN = 2;
const PAUSE_MS_MAX = 30;
/** Voters who may vote again; bounded, so that some vote many times. */
const KNOWN_VOTERS_MAX = 2_000;

const tokens = createVoterTokens(new Secret(VOTER_KEY));

/** A voter as the crowd remembers them. */
export interface CrowdVoter {
  readonly id: string;
  /** The last vote that was answered 202. */
  accepted: Vote;
  /** Choices sent after that whose fate nobody told: they may count or not. */
  uncertain: string[];
}

export interface CrowdCounts {
  accepted: number;
  refused: number;
  /** No answer: the connection broke, or it took too long. */
  unanswered: number;
}

interface KnownVoter {
  token: string;
  record: CrowdVoter | undefined;
  uncertain: string[];
  isVoting: boolean;
}

/**
 * People who vote all the time, some of them again and again and on any frontend, and who write down every 202.
 */
export class Crowd {
  readonly counts: CrowdCounts = { accepted: 0, refused: 0, unanswered: 0 };
  readonly voters = new Map<string, CrowdVoter>();
  /** Answers that are neither 202 nor 503: there must be none. */
  readonly surprises: string[] = [];
  readonly #frontends: readonly string[];
  readonly #random: Random;
  readonly #known: KnownVoter[] = [];
  #isOver = false;
  #people: Promise<unknown> = Promise.resolve();

  constructor(frontends: readonly string[], random: Random) {
    this.#frontends = frontends;
    this.#random = random;
  }

  start(people: number): void {
    this.#people = Promise.all(Array.from({ length: people }, () => this.#vote()));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#people;
  }

  async #vote(): Promise<void> {
    while (!this.#isOver) {
      const known = this.#random.next() < AGAIN_SHARE ? this.#someoneKnown() : undefined;
      if (known) known.isVoting = true;
      await this.#cast(this.#random.pick(this.#frontends), this.#random.pick(CHOICES), known);
      if (known) known.isVoting = false;
      await new Promise((resolve) => setTimeout(resolve, this.#random.between(PAUSE_MS_MIN, PAUSE_MS_MAX)));
    }
  }

  /** Someone who is not just voting: a voter waits for an answer before voting again. */
  #someoneKnown(): KnownVoter | undefined {
    if (this.#known.length === 0) return undefined;
    const someone = this.#random.pick(this.#known);
    return someone.isVoting ? undefined : someone;
  }

  async #cast(frontend: string, choice: string, known: KnownVoter | undefined): Promise<void> {
    let answer: Response;
    try {
      answer = await fetch(`${frontend}/polls/${POLL}/votes`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(known && { authorization: `Bearer ${known.token}` }),
        },
        body: JSON.stringify({ choice }),
        signal: AbortSignal.timeout(ANSWER_MS_MAX),
      });
      await answer.text();
    } catch {
      this.counts.unanswered += 1;
      known?.uncertain.push(choice);
      return;
    }
    const token = /turnout_voter=([^;]+)/.exec(answer.headers.get('set-cookie') ?? '')?.[1];
    if (answer.status === 503 && token) {
      this.counts.refused += 1;
      this.#remember(token, known).uncertain.push(choice);
    } else if (answer.status === 202 && token) {
      this.counts.accepted += 1;
      this.#accept(token, choice, this.#remember(token, known));
    } else {
      this.surprises.push(`${answer.status} without a vote`);
    }
  }

  #remember(token: string, known: KnownVoter | undefined): KnownVoter {
    if (known) {
      known.token = token;
      return known;
    }
    const voter: KnownVoter = { token, record: undefined, uncertain: [], isVoting: false };
    if (this.#known.length < KNOWN_VOTERS_MAX) this.#known.push(voter);
    else this.#known[Math.floor(this.#random.next() * KNOWN_VOTERS_MAX)] = voter;
    return voter;
  }

  #accept(token: string, choice: string, known: KnownVoter): void {
    const voter = tokens.verify(token);
    if (!voter) {
      this.surprises.push('a token that is not valid');
      return;
    }
    // Whatever was uncertain before is older than this vote, and cannot count any more.
    known.uncertain = [];
    const accepted: Vote = [POLL, voter.id, choice, voter.lastCastAt];
    known.record ??= { id: voter.id, accepted, uncertain: known.uncertain };
    known.record.accepted = accepted;
    known.record.uncertain = known.uncertain;
    this.voters.set(voter.id, known.record);
  }
}
