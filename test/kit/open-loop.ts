import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const TICK_MS = 10;
const ANSWER_MS_MAX = 10_000;
const IDLE_MS_MAX = 3_000;

export interface Outcome {
  readonly status: number;
  readonly ms: number;
  /** Why there was no answer. */
  readonly fault?: string;
}

export interface Offered {
  readonly outcomes: readonly Outcome[];
  /** For how long votes were offered. */
  readonly seconds: number;
  /** Votes that were accepted while votes were offered. Those that were answered afterwards belong to no second of it. */
  readonly acceptedInTime: number;
}

/** Votes that are sent to one address over kept connections, as many as it takes. */
export class Load {
  // An idle connection goes before the other side ends it, just as somebody wants to use it.
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 4_000, timeout: IDLE_MS_MAX });
  readonly #address: { readonly host: string; readonly port: number };
  readonly #name: string;

  /** @param name the `Host`, when that is not the address */
  constructor(address: { readonly host: string; readonly port: number }, name = address.host) {
    this.#address = address;
    this.#name = name;
  }

  close(): void {
    this.#agent.destroy();
  }

  async castVote(): Promise<Outcome> {
    const startedAt = performance.now();
    const sent = request({
      agent: this.#agent,
      ...this.#address,
      path: '/polls/cats-vs-dogs/votes',
      method: 'POST',
      headers: {
        host: this.#name,
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': 11,
      },
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    sent.end('choice=cats');
    const [answer] = (await once(sent, 'response')) as [IncomingMessage];
    answer.resume();
    await once(answer, 'end');
    return { status: answer.statusCode ?? 0, ms: performance.now() - startedAt };
  }

  /** Accepted votes a second when every client votes again as soon as it has its answer: what the other side can take. */
  async measurePeak(clients: number, msMax: number): Promise<number> {
    const startedAt = performance.now();
    let accepted = 0;
    const client = async (): Promise<void> => {
      while (performance.now() - startedAt < msMax) {
        const { status } = await this.#try();
        if (status === 202) accepted += 1;
        else await sleep(TICK_MS);
      }
    };
    await Promise.all(Array.from({ length: clients }, client));
    return accepted / ((performance.now() - startedAt) / 1_000);
  }

  /** The same, where no answer is an outcome as well: its status is 0. */
  async #try(): Promise<Outcome> {
    const startedAt = performance.now();
    return this.castVote().catch((error: NodeJS.ErrnoException) => ({
      status: 0,
      ms: performance.now() - startedAt,
      fault: error.code ?? error.name,
    }));
  }

  /** Votes arrive at a steady pace, whatever becomes of those before. */
  async offer(votesPerSecond: number, msMax: number): Promise<Offered> {
    const startedAt = performance.now();
    const waiting: Promise<Outcome>[] = [];
    let accepted = 0;
    const send = async (): Promise<Outcome> => {
      const outcome = await this.#try();
      if (outcome.status === 202) accepted += 1;
      return outcome;
    };
    for (let elapsed = 0; elapsed < msMax; elapsed = performance.now() - startedAt) {
      const due = Math.floor((elapsed / 1_000) * votesPerSecond);
      while (waiting.length < due) waiting.push(send());
      await sleep(TICK_MS);
    }
    const seconds = (performance.now() - startedAt) / 1_000;
    const acceptedInTime = accepted;
    return { outcomes: await Promise.all(waiting), seconds, acceptedInTime };
  }
}
