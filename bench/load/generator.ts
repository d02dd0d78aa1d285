import { Connection } from './connection.ts';
import type { LoadOrder, LoadResult, RatePoint } from './order.ts';
import { Recorder } from './record.ts';

const TICK_MS = 1;

/** Connections that are open, and what shall be done with them. */
export interface PreparedLoad {
  run(): Promise<LoadResult>;
}

/**
 * Opens the connections of an order, spread evenly over its ports, and sends a request on each: a server cuts off who
 * connects and says nothing, and a returning voter has voted before.
 */
export async function prepareLoad(order: LoadOrder): Promise<PreparedLoad> {
  const { ports, connections: count, kind } = order;
  const connections = Array.from(
    { length: count },
    (_, index) => new Connection(ports[index % ports.length] as number, kind),
  );
  await Promise.all(
    connections.map(async (connection) => {
      await connection.open();
      await new Promise((resolve) => connection.send(resolve));
    }),
  );
  return {
    run: async () => {
      const recorder = new Recorder(order.intervalMs ?? Number.POSITIVE_INFINITY);
      const startedAt = performance.now();
      if (order.rates) await runOpen(connections, order, order.rates, recorder);
      else await runClosed(connections, order, recorder);
      const seconds = (performance.now() - startedAt) / 1_000;
      for (const connection of connections) connection.close();
      return recorder.result(seconds);
    },
  };
}

async function runClosed(
  connections: readonly Connection[],
  { seconds }: LoadOrder,
  recorder: Recorder,
): Promise<void> {
  const startedAt = performance.now();
  const endsAt = startedAt + seconds * 1_000;
  await Promise.all(
    connections.map(
      (connection) =>
        new Promise<void>((resolve) => {
          let sentAt = 0;
          const done = (status: number): void => {
            const now = performance.now();
            recorder.add(now - startedAt, status, now - sentAt);
            if (now < endsAt) {
              sentAt = now;
              connection.send(done);
            } else resolve();
          };
          sentAt = performance.now();
          connection.send(done);
        }),
    ),
  );
}

/** Requests that are due wait here until a connection is free; that wait is part of their latency. */
async function runOpen(
  connections: readonly Connection[],
  { seconds }: LoadOrder,
  rates: readonly RatePoint[],
  recorder: Recorder,
): Promise<void> {
  const free = [...connections];
  const total = Math.floor(dueUntil(rates, seconds));
  const dueAt = dueTimes(rates, seconds, total);
  const startedAt = performance.now();
  let next = 0;
  let answered = 0;
  await new Promise<void>((resolve) => {
    const sendDue = (): void => {
      const elapsed = performance.now() - startedAt;
      while (next < total && (dueAt[next] as number) <= elapsed) {
        const connection = free.pop();
        if (!connection) return;
        const due = dueAt[next++] as number;
        connection.send((status) => {
          recorder.add(due, status, performance.now() - startedAt - due);
          free.push(connection);
          answered += 1;
          if (answered === total) {
            clearInterval(ticks);
            resolve();
          } else if (next < total) sendDue();
        });
      }
    };
    const ticks = setInterval(sendDue, TICK_MS);
    if (total === 0) {
      clearInterval(ticks);
      resolve();
    }
  });
}

/** How many requests are due until a moment: the area under the rates. */
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

/** When each request is due, in milliseconds; found by walking in steps of a tick, evenly within a step. */
function dueTimes(rates: readonly RatePoint[], seconds: number, total: number): Float64Array {
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
