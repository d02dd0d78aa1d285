import { afterEach, beforeEach, expect } from 'vitest';
import { service } from '#kit/haproxy.ts';
import { prepareLoad } from '#kit/load/generator.ts';
import { startInterlock, type TestInterlock, untilRouted } from './interlock.ts';

/** The only response that a load may get. */
export const ONLY_200 = { 200: expect.anything() };

/** Sends requests continuously; half of the clients keep their connection, half open one per request. */
export async function startLoad(port: number, hostHeader: string) {
  const load = await prepareLoad({
    targets: [{ port, hostHeader }],
    kind: 'first',
    connections: 6,
    shortLived: 3,
    seconds: Number.POSITIVE_INFINITY,
  });
  const result = load.run();
  return {
    answered: () => load.answered,
    /** Ends the load and returns its responses by status or error. */
    stop: async () => {
      load.stop();
      return (await result).answers;
    },
  };
}

/** Starts an Interlock with one routed service, `vote.test`, for each test of a file. */
export function useInterlock() {
  let interlock: TestInterlock;
  beforeEach(async () => {
    interlock = await startInterlock();
    const port = String(interlock.taskPort);
    await interlock.deploy(service('vote', { hosts: 'vote.test', port }), ['127.0.5.1', '127.0.5.2']);
    await untilRouted(interlock, 'vote.test');
  });
  afterEach(() => interlock.close());

  return {
    get interlock() {
      return interlock;
    },
    /** The port of all tasks, for the label. */
    get port() {
      return String(interlock.taskPort);
    },
    /** Returns service and reason of every logged error. */
    errors: (): unknown[] =>
      interlock.lines
        .filter(({ level }) => level === 'error')
        .map(({ service: name, reason }) => [name, reason]),
    /** Returns how many log lines contain a text. */
    logged: (text: string): number =>
      interlock.lines.filter((line) => JSON.stringify(line).includes(text)).length,
    metric: async (name: string, labels: Record<string, string>): Promise<number | undefined> => {
      const all = await interlock.registry.getSingleMetric(name)?.get();
      return all?.values.find(({ labels: seen }) => Object.entries(labels).every(([k, v]) => seen[k] === v))
        ?.value;
    },
  };
}
