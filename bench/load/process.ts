import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { LoadResult, LoadSpec } from '#kit/load/spec.ts';
import { withDeadline } from '#runtime/deadline.ts';

const PREPARE_MS_MAX = 20_000;
/** Longer than any request waits for its answer. */
const RUN_SLACK_MS = 60_000;

/** Messages to `main.ts`. */
export type LoadRequest = { readonly prepare: LoadSpec } | { readonly run: true };
/** Its replies, one for each message. */
export type LoadReply =
  | { readonly isPrepared: true }
  | { readonly result: LoadResult }
  | { readonly error: string };

/** A load generator in its own process, so that it shares no event loop with what it measures. */
export interface LoadProcess {
  readonly pid: number;
  /** Opens the connections of a load. */
  prepare(spec: LoadSpec): Promise<void>;
  /** Runs the load that was prepared. */
  run(): Promise<LoadResult>;
  end(): Promise<void>;
}

export function startLoadProcess(): LoadProcess {
  const child = fork(join(import.meta.dirname, 'main.ts'), { stdio: 'inherit' });
  let secondsMax = 0;
  return {
    pid: child.pid ?? 0,
    prepare: async (spec) => {
      secondsMax = spec.seconds;
      await ask(child, { prepare: spec }, PREPARE_MS_MAX);
    },
    run: async () => {
      const reply = await ask(child, { run: true }, secondsMax * 1_000 + RUN_SLACK_MS);
      if (!('result' in reply)) throw new Error('the load process returned no result');
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

async function ask(child: ChildProcess, message: LoadRequest, msMax: number): Promise<LoadReply> {
  const { promise, resolve, reject } = Promise.withResolvers<LoadReply>();
  const onExit = (): void => reject(new Error('the load process exited'));
  child.once('message', (reply) => resolve(reply as LoadReply));
  child.once('exit', onExit);
  try {
    child.send(message);
    const reply = await withDeadline(promise, msMax, 'the load process');
    if ('error' in reply) throw new Error(reply.error);
    return reply;
  } finally {
    child.removeAllListeners('message');
    child.off('exit', onExit);
  }
}
