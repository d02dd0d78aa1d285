import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { requestText } from './requests.ts';
import type { RequestKind, Target } from './spec.ts';

const HEAD_END = '\r\n\r\n';
const LENGTH = /\r\ncontent-length: (\d+)/i;
const CHUNKED = /\r\ntransfer-encoding: chunked/i;
const CLOSE = /\r\nconnection: close/i;
const LAST_CHUNK = '0\r\n\r\n';
const TOKEN = /turnout_voter=([\w-]+)/;
const ANSWER_MS_MAX = 10_000;
/** Less than any server's keep-alive timeout (5 s), so that no request meets a connection that is being closed. */
const IDLE_MS_MAX = 3_000;

/** Called with the status of the answer, or with the code of the error where there is none. */
type OnAnswer = (answer: string) => void;

/**
 * An HTTP/1.1 connection with at most one request in flight, opened when a request needs it. It parses only what the load
 * needs, at a fraction of the cost of an HTTP client, so that the CPU is left to the servers under measurement.
 */
export class Connection {
  readonly #target: Target;
  readonly #kind: RequestKind;
  readonly #isShortLived: boolean;
  readonly #request: string;
  #socket: Socket | undefined;
  #received = '';
  #onAnswer: OnAnswer | undefined;
  #sentAt = 0;
  #token: string | undefined;

  /** @param isShortLived closes the connection after every answer */
  constructor(target: Target, kind: RequestKind, isShortLived: boolean) {
    this.#target = target;
    this.#kind = kind;
    this.#isShortLived = isShortLived;
    this.#request = requestText(kind, target);
  }

  /** Sends a request; call it again only after `onAnswer` was called. */
  send(onAnswer: OnAnswer): void {
    this.#onAnswer = onAnswer;
    this.#sentAt = performance.now();
    this.#received = '';
    this.#socket ??= this.#watch(openSocket(this.#target));
    this.#socket.write(
      this.#token === undefined ? this.#request : requestText(this.#kind, this.#target, this.#token),
      'latin1',
    );
  }

  /** Whether an answer has given it a voter's token; only kind `returning` keeps one. */
  get hasToken(): boolean {
    return this.#token !== undefined;
  }

  close(): void {
    this.#socket?.destroy();
  }

  #watch(socket: Socket): Socket {
    let fault = 'closed';
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', (error: NodeJS.ErrnoException) => {
      fault = error.code ?? error.name;
    });
    socket.on('timeout', () => {
      const isWaiting = this.#onAnswer && performance.now() - this.#sentAt < ANSWER_MS_MAX;
      if (isWaiting) {
        socket.setTimeout(IDLE_MS_MAX);
        return;
      }
      socket.destroy();
      this.#drop(socket, 'timeout');
    });
    socket.on('close', () => this.#drop(socket, fault));
    return socket;
  }

  /** Does nothing once the connection has been replaced. */
  #drop(socket: Socket, fault: string): void {
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    this.#finish(fault);
  }

  #receive(text: string): void {
    this.#received = this.#received === '' ? text : this.#received + text;
    const received = this.#received;
    if (!this.#onAnswer || !isWhole(received)) return;
    if (this.#kind === 'returning') this.#token = TOKEN.exec(received)?.[1] ?? this.#token;
    if (this.#isShortLived || CLOSE.test(received)) {
      this.#socket?.destroy();
      this.#socket = undefined;
    }
    this.#finish(received.slice(9, 12));
  }

  #finish(answer: string): void {
    const onAnswer = this.#onAnswer;
    this.#onAnswer = undefined;
    onAnswer?.(answer);
  }
}

function openSocket({ host = '127.0.0.1', port, hostHeader, isTls, ca, localAddress }: Target): Socket {
  const name = hostHeader ?? host;
  const options = { host, port, ...(localAddress && { localAddress }) };
  const socket = isTls
    ? connectTls({ ...options, ...(ca && { ca }), ...(isIP(name) === 0 && { servername: name }) })
    : connect(options);
  return socket.setNoDelay(true).setTimeout(IDLE_MS_MAX);
}

/** Returns whether an answer has arrived with its whole body; without length and chunks, the body is empty. */
function isWhole(received: string): boolean {
  const headEnd = received.indexOf(HEAD_END);
  if (headEnd < 0) return false;
  const length = LENGTH.exec(received)?.[1];
  if (length !== undefined) return received.length >= headEnd + HEAD_END.length + Number(length);
  return !CHUNKED.test(received) || received.endsWith(LAST_CHUNK);
}
