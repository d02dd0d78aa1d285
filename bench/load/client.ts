import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { withDeadline } from '#runtime/deadline.ts';
import type { FromLoad, LoadOrder, LoadResult, ToLoad } from './order.ts';

const CONNECT_MS_MAX = 20_000;
/** Longer than a request may wait for its answer. */
const SLACK_MS = 60_000;

/** The load, in a process of its own. */
export interface Load {
  readonly pid: number;
  /** Opens the connections of an order. */
  prepare(order: LoadOrder): Promise<void>;
  /** Carries out what was prepared. */
  run(): Promise<LoadResult>;
  end(): Promise<void>;
}

export function startLoad(): Load {
  const child = fork(join(import.meta.dirname, 'main.ts'), { stdio: 'inherit' });
  let secondsMax = 0;
  return {
    pid: child.pid ?? 0,
    prepare: async (order) => {
      secondsMax = order.seconds;
      await ask(child, { order }, CONNECT_MS_MAX);
    },
    run: async () => {
      const reply = await ask(child, { go: true }, secondsMax * 1_000 + SLACK_MS);
      if (!('result' in reply)) throw new Error('the load gave no result');
      return reply.result;
    },
    end: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      child.kill();
      await exited;
    },
  };
}

async function ask(child: ChildProcess, message: ToLoad, msMax: number): Promise<FromLoad> {
  const { promise, resolve, reject } = Promise.withResolvers<FromLoad>();
  const exited = (): void => reject(new Error('the load has ended'));
  child.once('message', (reply) => resolve(reply as FromLoad));
  child.once('exit', exited);
  try {
    child.send(message);
    const reply = await withDeadline(promise, msMax, 'the load');
    if ('error' in reply) throw new Error(reply.error);
    return reply;
  } finally {
    child.removeAllListeners('message');
    child.off('exit', exited);
  }
}
