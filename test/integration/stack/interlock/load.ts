import { Agent, request } from 'node:http';

/** What clients saw while something went on. */
export interface Load {
  /** Requests sent so far. */
  readonly sent: number;
  /** Ends the load and gives everything that was not a 200. */
  stop(): Promise<string[]>;
}

const LANES = 6;
const ANSWER_MS_MAX = 10_000;

/** Sends POST requests without a pause: half of the lanes keep their connection, half open one for each request. */
export function startLoad(port: number, host: string): Load {
  const agents = [new Agent({ keepAlive: true, maxSockets: LANES })];
  const failures: string[] = [];
  let isOver = false;
  let sent = 0;
  const send = (agent: Agent | false): Promise<void> =>
    new Promise((resolve) => {
      const fail = (reason: string): void => {
        failures.push(reason);
        resolve();
      };
      const signal = AbortSignal.timeout(ANSWER_MS_MAX);
      const headers = { host, 'content-type': 'text/plain', 'content-length': 4 };
      sent += 1;
      const post = request({
        host: '127.0.0.1',
        port,
        method: 'POST',
        path: `/${sent}`,
        headers,
        agent,
        signal,
      });
      post.on('error', (error) => fail(`${(error as NodeJS.ErrnoException).code} ${error.message}`));
      post.on('response', (answer) => {
        answer.resume();
        answer.on('error', (error) => fail(error.message));
        answer.on('end', () => (answer.statusCode === 200 ? resolve() : fail(`status ${answer.statusCode}`)));
      });
      post.end('vote');
    });
  const lane = async (agent: Agent | false): Promise<void> => {
    while (!isOver) await send(agent);
  };
  const lanes = Array.from({ length: LANES }, (_, index) => lane(index % 2 ? false : (agents[0] ?? false)));
  return {
    get sent() {
      return sent;
    },
    stop: async () => {
      isOver = true;
      await Promise.all(lanes);
      for (const agent of agents) agent.destroy();
      return failures;
    },
  };
}
