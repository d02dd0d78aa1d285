import { connect, type Socket } from 'node:net';
import type { RequestKind } from './order.ts';
import { requestText } from './requests.ts';

const HEAD_END = '\r\n\r\n';
const LENGTH = /\r\ncontent-length: (\d+)/i;
const CHUNKED = /\r\ntransfer-encoding: chunked/i;
const LAST_CHUNK = '0\r\n\r\n';
const TOKEN = /turnout_voter=([\w-]+)/;
const RECONNECT_DELAY_MS = 20;

/** Hears what became of a request; `status` is 0 when the connection broke. */
type Done = (status: number) => void;

/**
 * A keep-alive connection with one request under way at most. Much cheaper than a whole HTTP client, so that the load
 * does not take the processor from what it measures.
 */
export class Connection {
  readonly #port: number;
  readonly #kind: RequestKind;
  readonly #request: string;
  #socket: Socket | undefined;
  #received = '';
  #done: Done | undefined;
  #token: string | undefined;
  #isClosed = false;

  constructor(port: number, kind: RequestKind) {
    this.#port = port;
    this.#kind = kind;
    this.#request = requestText(kind, port, undefined);
  }

  /** @throws when nobody listens */
  async open(): Promise<void> {
    const socket = connect({ host: '127.0.0.1', port: this.#port, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    socket.removeAllListeners('error');
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', () => {});
    socket.on('close', () => void this.#reopen());
    if (this.#isClosed) socket.destroy();
    this.#socket = socket;
  }

  /** Sends one request; not before the one before is done. Without a connection it fails once there is one again. */
  send(done: Done): void {
    this.#done = done;
    if (!this.#socket) return;
    const isKnown = this.#kind === 'returning' && this.#token !== undefined;
    this.#socket.write(isKnown ? requestText(this.#kind, this.#port, this.#token) : this.#request, 'latin1');
  }

  close(): void {
    this.#isClosed = true;
    this.#socket?.destroy();
  }

  #receive(text: string): void {
    this.#received = this.#received === '' ? text : this.#received + text;
    const received = this.#received;
    if (!isWhole(received)) return;
    this.#received = '';
    if (this.#kind === 'returning') this.#token = TOKEN.exec(received)?.[1] ?? this.#token;
    this.#finish(Number(received.slice(9, 12)));
  }

  #finish(status: number): void {
    const done = this.#done;
    this.#done = undefined;
    done?.(status);
  }

  /** The server may close a connection; the next request needs another one. */
  async #reopen(): Promise<void> {
    this.#socket = undefined;
    this.#received = '';
    while (!this.#socket && !this.#isClosed) {
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_DELAY_MS));
      await this.open().catch(() => undefined);
    }
    this.#finish(0);
  }
}

/** Whether an answer has all of its body. One that tells no length and is not chunked has none. */
function isWhole(received: string): boolean {
  const headEnd = received.indexOf(HEAD_END);
  if (headEnd < 0) return false;
  const length = LENGTH.exec(received)?.[1];
  if (length !== undefined) return received.length >= headEnd + HEAD_END.length + Number(length);
  return !CHUNKED.test(received) || received.endsWith(LAST_CHUNK);
}
