import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { until } from './until.ts';

/** Longer than a server waits for a request that never ends. */
const ANSWER_MS_MAX = 20_000;

/**
 * Sends bytes as they are, and gives all that comes back.
 *
 * @param isDone when to stop reading; otherwise when the server closes the connection
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

/** The statuses of all answers on a connection, in their order. */
export function statusesOf(answers: string): number[] {
  return [...answers.matchAll(/HTTP\/1\.1 (\d{3}) [A-Z]/g)].map(([, status]) => Number(status));
}

/** What `fetch` would not send: any method, and a path exactly as it is written. */
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
