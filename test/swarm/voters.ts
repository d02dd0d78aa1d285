import { Agent, type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { nodeOf, parseJobKey } from '#job';
import { Secret } from '#runtime/secret.ts';

const ANSWER_MS_MAX = 5_000;
const PAUSE_MS = 20;
const CHOICES = ['cats', 'dogs'];
/** Every so many votes of a person, one is the same voter's who changes their mind. */
const AGAIN_EVERY = 3;

/** One vote that was sent. Times are of `performance.now()`. */
export interface Sent {
  readonly startedAt: number;
  readonly ms: number;
  /** 0 when there was no answer. */
  readonly status: number;
  readonly fault?: string;
  readonly receipt?: string;
  /** The node that took the vote, from its receipt. */
  readonly node?: string;
}

interface Ballot {
  readonly choice: string;
  readonly castAt: number;
}

export interface VotersOptions {
  /** The proxy's. */
  readonly address: string;
  readonly host: string;
  readonly poll: string;
  /** What the handlers sign tokens with; shows who a voter is. */
  readonly voterKey: string;
  readonly people: number;
}

/**
 * People who vote through the proxy all the time, over connections that they keep, and who write down every answer. A
 * vote that had no answer may count or not; its voter never votes again, so that what must count is always clear.
 */
export class Voters {
  readonly sent: Sent[] = [];
  /** The last accepted vote of every voter. */
  readonly accepted = new Map<string, Ballot>();
  /** Voters of whom nobody knows whether their last vote was taken. */
  readonly uncertain = new Set<string>();
  readonly #options: VotersOptions;
  readonly #agent: Agent;
  readonly #tokens: ReturnType<typeof createVoterTokens>;
  #isOver = false;
  #people: Promise<unknown> = Promise.resolve();

  constructor(options: VotersOptions) {
    this.#options = options;
    this.#agent = new Agent({ keepAlive: true, maxSockets: options.people });
    this.#tokens = createVoterTokens(new Secret(options.voterKey));
  }

  start(): this {
    const people = Array.from({ length: this.#options.people }, (_, index) => this.#person(index));
    this.#people = Promise.all(people);
    return this;
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#people;
    this.#agent.destroy();
  }

  /** What was sent at this time or later and is answered by now. */
  since(startedAt: number): Sent[] {
    return this.sent.filter((vote) => vote.startedAt >= startedAt);
  }

  /** The nodes that have taken votes since then. */
  nodesSince(startedAt: number): Set<string> {
    return new Set(this.since(startedAt).flatMap(({ node }) => (node === undefined ? [] : [node])));
  }

  /** The jobs that the receipts so far name. */
  jobs(): { source: string; seq: number }[] {
    return this.sent.flatMap(({ receipt }) => (receipt && parseJobKey(receipt)) || []);
  }

  async #person(index: number): Promise<void> {
    let token: string | undefined;
    for (let n = index; !this.#isOver; n++) {
      if (n % AGAIN_EVERY === 0) token = undefined;
      token = await this.#vote(CHOICES[n % 2] ?? 'cats', token);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  /** @returns the voter's token for the next vote, if there may be one */
  async #vote(choice: string, token: string | undefined): Promise<string | undefined> {
    const startedAt = performance.now();
    const note = (outcome: Omit<Sent, 'startedAt' | 'ms'>): void => {
      this.sent.push({ startedAt, ms: performance.now() - startedAt, ...outcome });
    };
    const voter = token === undefined ? undefined : this.#tokens.verify(token);
    try {
      const { answer, body } = await this.#post(choice, token);
      const status = answer.statusCode ?? 0;
      const next = /turnout_voter=([^;]+)/.exec(String(answer.headers['set-cookie'] ?? ''))?.[1];
      if (status !== 202 || next === undefined) {
        note({ status, fault: body });
        if (voter) this.uncertain.add(voter.id);
        return undefined;
      }
      const signed = this.#tokens.verify(next);
      if (!signed) throw new Error('the token is not signed with our key');
      this.accepted.set(signed.id, { choice, castAt: signed.lastCastAt });
      const receipt = String(JSON.parse(body).receipt);
      note({ status, receipt, node: nodeOf(parseJobKey(receipt)?.source ?? '') });
      return next;
    } catch (error) {
      note({ status: 0, fault: String((error as NodeJS.ErrnoException).code ?? error) });
      if (voter) this.uncertain.add(voter.id);
      return undefined;
    }
  }

  async #post(choice: string, token: string | undefined): Promise<{ answer: IncomingMessage; body: string }> {
    const { address, host, poll } = this.#options;
    const sent = request({
      agent: this.#agent,
      host: address,
      path: `/polls/${poll}/votes`,
      method: 'POST',
      headers: {
        host,
        'content-type': 'application/json',
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    sent.end(JSON.stringify({ choice }));
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      sent.once('response', resolve);
      sent.once('error', reject);
    });
    return { answer, body: await text(answer) };
  }
}
