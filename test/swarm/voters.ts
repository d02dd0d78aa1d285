import { Agent, type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { nodeOf, parseJobKey } from '#job';
import { Secret } from '#runtime/secret.ts';

const RESPONSE_MS_MAX = 5_000;
const PAUSE_MS = 20;
const CHOICES = ['cats', 'dogs'];
/** A person starts as a new voter after this many votes; the votes between are the same voter changing their mind. */
const VOTES_PER_VOTER = 3;

/** A vote that was sent. Times are `performance.now()`. */
export interface Sent {
  readonly startedAt: number;
  readonly ms: number;
  /** 0 if there was no response. */
  readonly status: number;
  readonly fault?: string;
  readonly receipt?: string;
  /** The node in the receipt. */
  readonly node?: string;
}

interface Ballot {
  readonly choice: string;
  readonly castAt: number;
}

export interface VotersOptions {
  /** Address of the proxy. */
  readonly address: string;
  readonly host: string;
  readonly poll: string;
  /** The handlers' signing key, with which tokens are read. */
  readonly voterKey: string;
  readonly people: number;
}

/**
 * Simulated people who vote continuously through the proxy over keep-alive connections and record every response. A voter
 * without a response never votes again, so that the expected count stays unambiguous.
 */
export class Voters {
  readonly sent: Sent[] = [];
  /** The last accepted vote of every voter. */
  readonly accepted = new Map<string, Ballot>();
  /** Voters whose last vote has an unknown outcome. */
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

  get poll(): string {
    return this.#options.poll;
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

  /** Returns the votes sent at this time or later that have a response. */
  since(startedAt: number): Sent[] {
    return this.sent.filter((vote) => vote.startedAt >= startedAt);
  }

  /** Returns the nodes that accepted votes sent at this time or later. */
  nodesSince(startedAt: number): Set<string> {
    return new Set(this.since(startedAt).flatMap(({ node }) => (node === undefined ? [] : [node])));
  }

  /** Returns the jobs named by the receipts so far. */
  jobs(): { source: string; seq: number }[] {
    return this.sent.flatMap(({ receipt }) => (receipt && parseJobKey(receipt)) || []);
  }

  async #person(index: number): Promise<void> {
    let token: string | undefined;
    for (let n = index; !this.#isOver; n++) {
      if (n % VOTES_PER_VOTER === 0) token = undefined;
      token = await this.#vote(CHOICES[n % 2] ?? 'cats', token);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  /** Casts a vote. @returns the voter's token for the next vote; `undefined` if the voter must not vote again */
  async #vote(choice: string, token: string | undefined): Promise<string | undefined> {
    const startedAt = performance.now();
    const record = (outcome: Omit<Sent, 'startedAt' | 'ms'>): void => {
      this.sent.push({ startedAt, ms: performance.now() - startedAt, ...outcome });
    };
    const voter = token === undefined ? undefined : this.#tokens.verify(token);
    try {
      const { response, body } = await this.#post(choice, token);
      const status = response.statusCode ?? 0;
      const next = /turnout_voter=([^;]+)/.exec(String(response.headers['set-cookie'] ?? ''))?.[1];
      if (status !== 202 || next === undefined) {
        record({ status, fault: body });
        if (voter) this.uncertain.add(voter.id);
        return undefined;
      }
      const signed = this.#tokens.verify(next);
      if (!signed) throw new Error('the token has an unknown signature');
      this.accepted.set(signed.id, { choice, castAt: signed.lastCastAt });
      const receipt = String(JSON.parse(body).receipt);
      record({ status, receipt, node: nodeNameOf(receipt) });
      return next;
    } catch (error) {
      record({ status: 0, fault: String((error as NodeJS.ErrnoException).code ?? error) });
      if (voter) this.uncertain.add(voter.id);
      return undefined;
    }
  }

  async #post(
    choice: string,
    token: string | undefined,
  ): Promise<{ response: IncomingMessage; body: string }> {
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
      signal: AbortSignal.timeout(RESPONSE_MS_MAX),
    });
    sent.end(JSON.stringify({ choice }));
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      sent.once('response', resolve);
      sent.once('error', reject);
    });
    return { response, body: await text(response) };
  }
}

function nodeNameOf(receipt: string): string {
  const source = parseJobKey(receipt)?.source;
  return source === undefined ? '' : nodeOf(source).name;
}
