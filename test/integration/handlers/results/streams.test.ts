import { connect } from 'node:net';
import { Hono } from 'hono';
import { expect, test } from 'vitest';
import type { Snapshot } from '#handlers/results/feed.ts';
import { Streams } from '#handlers/results/streams.ts';
import { until } from '#kit/until.ts';
import { listen } from '#runtime/server.ts';

test('disconnects a client that does not read, and buffers at most one event for it', async () => {
  let push: (snapshot: Snapshot) => void = () => {};
  let edited = 0;
  const streams = new Streams({
    feed: {
      subscribe: (listener) => {
        push = listener;
        return () => {};
      },
    },
    stallMsMax: 300,
  });
  const snapshotAt = (asOf: number): Snapshot => ({
    results: { polls: [], ledger: { accepted: 0, committed: 0 } },
    asOf,
  });
  const app = new Hono().get('/', (c) =>
    streams.start(c, snapshotAt(0), ({ asOf }) => {
      edited += 1;
      // Large, so that the kernel's buffers fill quickly.
      return { content: String(asOf), body: `${asOf}`.padEnd(1_000_000, '.') };
    }),
  );
  const server = await listen(app, 0, { hostname: '127.0.0.1' });
  const client = connect(server.port, '127.0.0.1');
  try {
    client.pause();
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await until('the stream is open', () => streams.open === 1);
    let pushed = 0;
    await until('the stream is cut', () => {
      pushed += 1;
      push(snapshotAt(pushed));
      return streams.open === 0;
    });
    const closed = new Promise<void>((resolve) => client.once('close', () => resolve()));
    client.on('error', () => {});
    client.resume();
    await closed;
    expect(edited).toBeLessThan(pushed);
  } finally {
    client.destroy();
    await server.close();
  }
});
