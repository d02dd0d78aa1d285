import { Connection } from './connection.ts';
import { isAcceptedAnswer, Recorder } from './recorder.ts';
import { GAVE_UP, type LoadResult, type LoadSpec, type RatePoint, type RequestKind } from './spec.ts';

const TICK_MS = 1;
/** A client whose request was not accepted waits this long in a closed loop. */
const BACK_OFF_MS = 10;

/** A load whose connections are open. */
export interface LoadGenerator {
  /** Requests that have been answered, or have failed, since `run`. */
  readonly answered: number;
  /** Generates the load and closes its connections. */
  run(): Promise<LoadResult>;
  /** Ends a closed loop; `run` resolves once the requests in flight are answered. */
  stop(): void;
}

/**
 * Opens the connections of a load, spread evenly over its targets, and sends one request on each: a server closes
 * connections without a request, and a returning voter needs a token.
 *
 * @throws when a connection gets no answer
 */
export async function prepareLoad(spec: LoadSpec): Promise<LoadGenerator> {
  const { targets, connections: count, kind, shortLived = 0, seconds } = spec;
  const connections = Array.from({ length: count }, (_, index) => {
    const target = targets[index % targets.length];
    if (!target) throw new TypeError('a load needs a target');
    return new Connection(target, kind, index < shortLived);
  });
  const primed = (await Promise.all(connections.map(prime))).filter(isAcceptedAnswer).length;
  const recorder = new Recorder(seconds * 1_000);
  const stop = new AbortController();
  return {
    get answered() {
      return recorder.count;
    },
    run: async () => {
      const startedAt = performance.now();
      if (spec.rates) await runOpen(connections, spec, spec.rates, recorder);
      else await runClosed(connections, seconds, recorder, stop.signal);
      const elapsed = (performance.now() - startedAt) / 1_000;
      for (const connection of connections) connection.close();
      const result = recorder.result(elapsed, spec.intervalMs);
      return { ...result, primed, voters: votersOf(kind, connections, result.accepted + primed) };
    },
    stop: () => stop.abort(),
  };
}

function votersOf(kind: RequestKind, connections: readonly Connection[], accepted: number): number {
  if (kind === 'page') return 0;
  return kind === 'returning' ? connections.filter(({ hasToken }) => hasToken).length : accepted;
}

/** Returns the answer. */
async function prime(connection: Connection): Promise<string> {
  const answer = await new Promise<string>((resolve) => connection.send(resolve));
  if (!/^\d+$/.test(answer)) throw new Error(`no answer to the first request of a connection: ${answer}`);
  return answer;
}

async function runClosed(
  connections: readonly Connection[],
  seconds: number,
  recorder: Recorder,
  stop: AbortSignal,
): Promise<void> {
  const startedAt = performance.now();
  const endMs = seconds * 1_000;
  const client = (connection: Connection, done: () => void): void => {
    let sentMs = 0;
    const send = (): void => {
      sentMs = performance.now() - startedAt;
      if (sentMs < endMs && !stop.aborted) connection.send(onAnswer);
      else done();
    };
    const onAnswer = (answer: string): void => {
      const answeredMs = performance.now() - startedAt;
      if (recorder.add({ dueMs: sentMs, sentMs, answeredMs, answer })) send();
      else setTimeout(send, BACK_OFF_MS);
    };
    send();
  };
  await Promise.all(connections.map((connection) => new Promise<void>((done) => client(connection, done))));
}

/** Requests that are due wait here until a connection is free; their latency counts from when they were due. */
async function runOpen(
  connections: readonly Connection[],
  { seconds, patienceMs = Number.POSITIVE_INFINITY }: LoadSpec,
  rates: readonly RatePoint[],
  recorder: Recorder,
): Promise<void> {
  // First in, first out: while there is load, no connection idles until it is closed.
  const free = [...connections];
  const dueTimes = dueTimesOf(rates, seconds);
  const total = dueTimes.length;
  if (total === 0) return;
  const startedAt = performance.now();
  let next = 0;
  await new Promise<void>((resolve) => {
    const endOnceAnswered = (): void => {
      if (recorder.count < total) return;
      clearInterval(ticks);
      resolve();
    };
    const sendDue = (): void => {
      const sentMs = performance.now() - startedAt;
      while (next < total && (dueTimes[next] as number) < sentMs - patienceMs) {
        recorder.add({ dueMs: dueTimes[next++] as number, sentMs, answeredMs: sentMs, answer: GAVE_UP });
      }
      while (next < total && (dueTimes[next] as number) <= sentMs) {
        const connection = free.shift();
        if (!connection) break;
        const dueMs = dueTimes[next++] as number;
        connection.send((answer) => {
          recorder.add({ dueMs, sentMs, answeredMs: performance.now() - startedAt, answer });
          free.push(connection);
          sendDue();
        });
      }
      endOnceAnswered();
    };
    const ticks = setInterval(sendDue, TICK_MS);
  });
}

/** Returns how many requests are due up to a moment: the area under the rates. */
export function dueUntil(rates: readonly RatePoint[], seconds: number): number {
  let due = 0;
  for (const [index, from] of rates.entries()) {
    if (from.atSeconds >= seconds) break;
    const to = rates[index + 1] ?? { atSeconds: Number.POSITIVE_INFINITY, perSecond: from.perSecond };
    const until = Math.min(to.atSeconds, seconds);
    due += ((from.perSecond + rateAt(from, to, until)) / 2) * (until - from.atSeconds);
  }
  return due;
}

function rateAt(from: RatePoint, to: RatePoint, seconds: number): number {
  if (to.atSeconds === Number.POSITIVE_INFINITY) return from.perSecond;
  const share = (seconds - from.atSeconds) / (to.atSeconds - from.atSeconds);
  return from.perSecond + (to.perSecond - from.perSecond) * share;
}

/** Returns when each request is due, in milliseconds: exact to the tick, spread evenly within it. */
function dueTimesOf(rates: readonly RatePoint[], seconds: number): Float64Array {
  const total = Math.floor(dueUntil(rates, seconds));
  const times = new Float64Array(total);
  let count = 0;
  let before = 0;
  for (let ms = TICK_MS; count < total; ms += TICK_MS) {
    const due = Math.min(total, dueUntil(rates, Math.min(seconds, ms / 1_000)));
    while (count < Math.floor(due + 1e-9)) {
      times[count] = ms - TICK_MS * (1 - (count + 1 - before) / Math.max(due - before, 1e-9));
      count += 1;
    }
    before = due;
    if (ms / 1_000 > seconds + 1) break;
  }
  return times.fill(seconds * 1_000, count);
}
