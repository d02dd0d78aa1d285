import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import { withDeadline } from '#runtime/deadline.ts';
import type { Feed, Snapshot } from './feed.ts';

/** More open streams than this are refused: each is a connection, and other processes have room. */
const STREAMS_MAX = 5_000;
/** A proxy closes a connection on which nothing moves; this is well below what proxies wait. */
const HEARTBEAT_INTERVAL_MS = 15_000;
/** A client that has not read the last event for this long is gone, or does not mean to read. */
const STALL_MS_MAX = 10_000;
/** Clients that lost their streams together must not come back together. */
const RECONNECT_MS_MIN = 1_000;
const RECONNECT_MS_MAX = 5_000;

/** What to send of a snapshot: `content` decides whether it is news, `body` is what goes out. */
export interface Edition {
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
 * Server-sent events. A stream holds one snapshot at most: while a client does not read, newer snapshots replace the one
 * that waits for it, and after `stallMsMax` its connection is cut.
 */
export class Streams {
  readonly #feed: StreamsOptions['feed'];
  readonly #streamsMax: number;
  readonly #stallMsMax: number;
  readonly #heartbeatIntervalMs: number;
  readonly #endings = new Set<() => void>();
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
    return this.#endings.size;
  }

  get isFull(): boolean {
    return this.#closed || this.open >= this.#streamsMax;
  }

  /**
   * Answers with a stream that begins with `first`. Call it only while `isFull` is false.
   *
   * @param edit what the stream shows of a snapshot; `undefined` when there is nothing to show
   */
  start(c: Context, first: Snapshot, edit: (snapshot: Snapshot) => Edition | undefined): Response {
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
      this.#endings.add(end);
      stream.onAbort(end);
      try {
        let sent: string | undefined;
        let writtenAt = performance.now();
        while (!isOver) {
          const edition: Edition | undefined = waiting && edit(waiting);
          const id = String(waiting?.asOf);
          waiting = undefined;
          if (edition && edition.content !== sent) {
            const retry = sent === undefined ? { retry: reconnectMs() } : {};
            await this.#within(stream.writeSSE({ id, data: edition.body, ...retry }));
            sent = edition.content;
            writtenAt = performance.now();
          } else if (performance.now() - writtenAt >= this.#heartbeatIntervalMs) {
            await this.#within(stream.write(': still here\n\n'));
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
        // Nothing else can throw here than the deadline. Closing in order would wait for the client to read.
        (c.env as Partial<HttpBindings> | undefined)?.outgoing?.destroy();
        stream.abort();
      } finally {
        unsubscribe();
        this.#endings.delete(end);
      }
    });
  }

  /** Ends all streams and refuses new ones; their clients come back, to another process. */
  close(): void {
    this.#closed = true;
    for (const end of this.#endings) end();
  }

  #within(write: Promise<unknown>): Promise<unknown> {
    return withDeadline(write, this.#stallMsMax, 'writing to a stream');
  }
}

function reconnectMs(): number {
  return Math.round(RECONNECT_MS_MIN + Math.random() * (RECONNECT_MS_MAX - RECONNECT_MS_MIN));
}
