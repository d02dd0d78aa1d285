import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import { withDeadline } from '#runtime/deadline.ts';
import type { Feed, Snapshot } from './feed.ts';

/** Maximum of open streams. More are refused, so that the client can retry on another process. */
const STREAMS_MAX = 5_000;
/** Proxies close idle connections; this is well below their timeouts. */
const HEARTBEAT_INTERVAL_MS = 15_000;
/** A client that does not read an event for this long is disconnected. */
const STALL_MS_MAX = 10_000;
/** Jitter, so that clients that lost their streams together do not return together. */
const RECONNECT_MS_MIN = 1_000;
const RECONNECT_MS_MAX = 5_000;

/** A rendered snapshot: `body` is sent if `content`, which lacks the time of the snapshot, differs from the last one sent. */
export interface RenderedEvent {
  readonly content: string;
  readonly body: string;
}

export interface StreamsOptions {
  readonly feed: Pick<Feed, 'subscribe'>;
  readonly streamsMax?: number;
  readonly stallMsMax?: number;
  readonly heartbeatIntervalMs?: number;
}

/**
 * Server-sent events. A stream buffers at most one snapshot: while a client does not read, newer snapshots replace the waiting
 * one, and after `stallMsMax` the connection is closed.
 */
export class Streams {
  readonly #feed: StreamsOptions['feed'];
  readonly #streamsMax: number;
  readonly #stallMsMax: number;
  readonly #heartbeatIntervalMs: number;
  /** Functions that end the open streams. */
  readonly #openStreams = new Set<() => void>();
  #closed = false;

  constructor({
    feed,
    streamsMax = STREAMS_MAX,
    stallMsMax = STALL_MS_MAX,
    heartbeatIntervalMs = HEARTBEAT_INTERVAL_MS,
  }: StreamsOptions) {
    this.#feed = feed;
    this.#streamsMax = streamsMax;
    this.#stallMsMax = stallMsMax;
    this.#heartbeatIntervalMs = heartbeatIntervalMs;
  }

  get open(): number {
    return this.#openStreams.size;
  }

  get isFull(): boolean {
    return this.#closed || this.open >= this.#streamsMax;
  }

  /**
   * Responds with a stream that starts with `first`. Call it only while `isFull` is false.
   *
   * @param render renders a snapshot; `undefined` ends the stream. The client then asks again and gets the reason.
   */
  start(c: Context, first: Snapshot, render: (snapshot: Snapshot) => RenderedEvent | undefined): Response {
    return streamSSE(c, async (stream) => {
      let waiting: Snapshot | undefined = first;
      let isOver = false;
      let wake = (): void => {};
      const end = (): void => {
        isOver = true;
        wake();
      };
      const unsubscribe = this.#feed.subscribe((snapshot) => {
        waiting = snapshot;
        wake();
      });
      this.#openStreams.add(end);
      stream.onAbort(end);
      try {
        let sent: string | undefined;
        let writtenAt = performance.now();
        while (!isOver) {
          const event: RenderedEvent | undefined = waiting && render(waiting);
          if (waiting && !event) break;
          const id = String(waiting?.asOf);
          waiting = undefined;
          if (event && event.content !== sent) {
            const retry = sent === undefined ? { retry: reconnectMs() } : {};
            await this.#within(stream.writeSSE({ id, data: event.body, ...retry }));
            sent = event.content;
            writtenAt = performance.now();
          } else if (performance.now() - writtenAt >= this.#heartbeatIntervalMs) {
            await this.#within(stream.write(': heartbeat\n\n'));
            writtenAt = performance.now();
          }
          if (isOver || waiting) continue;
          await new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, writtenAt + this.#heartbeatIntervalMs - performance.now());
            wake = () => {
              clearTimeout(timer);
              resolve();
            };
          });
        }
      } catch {
        // Only the deadline throws here. A graceful close would wait for the client to read.
        (c.env as Partial<HttpBindings> | undefined)?.outgoing?.destroy();
        stream.abort();
      } finally {
        unsubscribe();
        this.#openStreams.delete(end);
      }
    });
  }

  /** Ends all streams and refuses new ones; clients reconnect to another process. */
  close(): void {
    this.#closed = true;
    for (const end of this.#openStreams) end();
  }

  #within(write: Promise<unknown>): Promise<unknown> {
    return withDeadline(write, this.#stallMsMax, 'writing to a stream');
  }
}

function reconnectMs(): number {
  return Math.round(RECONNECT_MS_MIN + Math.random() * (RECONNECT_MS_MAX - RECONNECT_MS_MIN));
}
