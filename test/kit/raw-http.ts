import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { until } from './until.ts';

/** Longer than a server's request timeout. */
const ANSWER_MS_MAX = 20_000;

/**
 * Sends raw bytes and returns everything received.
 *
 * @param isDone ends reading when true; default: reads until the server closes the connection
 */
export async function sendBytes(
  port: number,
  bytes: string,
  isDone: (answer: string) => boolean = () => false,
  host = '127.0.0.1',
): Promise<string> {
  const socket = connect(port, host);
  let answer = '';
  let isClosed = false;
  socket.on('data', (data) => {
    answer += data.toString('latin1');
  });
  socket.on('close', () => {
    isClosed = true;
  });
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(bytes, 'latin1');
  try {
    await until('the answer, or the end of the connection', () => isClosed || isDone(answer), ANSWER_MS_MAX);
  } finally {
    socket.destroy();
  }
  return answer;
}

/** Returns the statuses of all responses on a connection, in order. */
export function statusesOf(answers: string): number[] {
  return [...answers.matchAll(/HTTP\/1\.1 (\d{3}) [A-Z]/g)].map(([, status]) => Number(status));
}

/** Sends a request that `fetch` would reject or normalize: any method, and the path unchanged. */
export async function ask(
  url: string,
  path: string,
  method = 'GET',
  headers: Readonly<Record<string, string>> = {},
  body?: string,
): Promise<{
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
}> {
  const { hostname, port } = new URL(url);
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  const sent = request({ hostname, port, path, method, headers, agent: false, signal });
  sent.end(body);
  const [answer] = await once(sent, 'response');
  return { status: answer.statusCode ?? 0, headers: answer.headers, body: await text(answer) };
}
