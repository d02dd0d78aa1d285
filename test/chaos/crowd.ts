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

/** What the crowd recorded of a voter. */
export interface CrowdVoter {
  readonly id: string;
  /** The last vote with a 202. */
  accepted: Vote;
  /** Choices sent after it without a 202. Their outcome is unknown: they may count or not. */
  uncertain: string[];
}

export interface CrowdCounts {
  accepted: number;
  refused: number;
  /** The connection broke, or the response took too long. */
  unanswered: number;
}

interface KnownVoter {
  token: string;
  record: CrowdVoter | undefined;
  uncertain: string[];
  isVoting: boolean;
}

/** Simulated people who vote continuously, some repeatedly and on any frontend, and record every 202. */
export class Crowd {
  readonly counts: CrowdCounts = { accepted: 0, refused: 0, unanswered: 0 };
  readonly voters = new Map<string, CrowdVoter>();
  /** Descriptions of responses other than 202 and 503, invalid tokens, and units that exited without a fault. */
  readonly unexpected: string[] = [];
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
      const known = this.#random.next() < REPEAT_SHARE ? this.#pickKnown() : undefined;
      if (known) known.isVoting = true;
      await this.#cast(this.#random.pick(this.#frontends), this.#random.pick(CHOICES), known);
      if (known) known.isVoting = false;
      await new Promise((resolve) => setTimeout(resolve, this.#random.between(PAUSE_MS_MIN, PAUSE_MS_MAX)));
    }
  }

  /** Picks a voter without a vote in flight: a voter waits for the response before voting again. */
  #pickKnown(): KnownVoter | undefined {
    if (this.#known.length === 0) return undefined;
    const voter = this.#random.pick(this.#known);
    return voter.isVoting ? undefined : voter;
  }

  async #cast(frontend: string, choice: string, known: KnownVoter | undefined): Promise<void> {
    let response: Response;
    try {
      response = await fetch(`${frontend}/polls/${POLL}/votes`, {
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
      this.counts.unanswered += 1;
      known?.uncertain.push(choice);
      return;
    }
    const token = /turnout_voter=([^;]+)/.exec(response.headers.get('set-cookie') ?? '')?.[1];
    if (response.status === 503 && token) {
      this.counts.refused += 1;
      this.#remember(token, known).uncertain.push(choice);
    } else if (response.status === 202 && token) {
      this.counts.accepted += 1;
      this.#accept(token, choice, this.#remember(token, known));
    } else {
      this.unexpected.push(`unexpected response ${response.status}`);
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
      this.unexpected.push('invalid token in a response');
      return;
    }
    // Uncertain votes are older than this one, so they can no longer count.
    known.uncertain = [];
    const accepted: Vote = [POLL, voter.id, choice, voter.lastCastAt];
    known.record ??= { id: voter.id, accepted, uncertain: known.uncertain };
    known.record.accepted = accepted;
    known.record.uncertain = known.uncertain;
    this.voters.set(voter.id, known.record);
  }
}
