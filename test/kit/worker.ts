import { join } from 'node:path';
import { Queue } from 'bullmq';
import { ROOT } from '#dev/root.ts';
import { type Batch, encodeBatch, jobKey } from '#job';
import { freePort, startNode, type TestProcess } from './process.ts';
import type { TestRedis } from './redis.ts';

const MAIN = join(ROOT, 'workers/main.ts');
const POLLS_FILE = join(ROOT, 'stack/polls.json');

/** A worker process, started from its source. */
export interface TestWorker extends TestProcess {
  readonly adminPort: number;
  /** Returns the status of a path on the admin port, and the reasons why the worker is not ready. */
  ask(path: '/startupz' | '/readyz'): Promise<{ status: number; reason: Record<string, string> }>;
  /** Returns the logged lines with this message, parsed. */
  lines(message: string): Promise<Record<string, unknown>[]>;
}

export interface WorkerOptions {
  readonly databaseUrl: string;
  readonly nodes: readonly TestRedis[];
  /** The folder of the log. */
  readonly folder: string;
}

/** Starts a worker without waiting until it is ready. */
export async function startWorker({ databaseUrl, nodes, folder }: WorkerOptions): Promise<TestWorker> {
  const adminPort = await freePort();
  const env = {
    ADMIN_PORT: String(adminPort),
    DATABASE_URL: databaseUrl,
    POLLS_FILE,
    QUEUE_NODES: nodes.map(({ socket }) => socket).join(),
  };
  const process = startNode(MAIN, env, join(folder, `worker-${adminPort}.log`));
  return {
    ...process,
    adminPort,
    ask: async (path) => {
      const response = await fetch(`http://127.0.0.1:${adminPort}${path}`);
      const { reason = {} } = (await response.json()) as { reason?: Record<string, string> };
      return { status: response.status, reason };
    },
    lines: async (message) => {
      const lines = (await process.output()).split('\n').filter(Boolean);
      return lines.map((line) => JSON.parse(line)).filter((line) => line.message === message);
    },
  };
}

/** Adds a job to a node's queue as a handler does. */
export async function enqueue(node: TestRedis, batch: Batch): Promise<void> {
  const queue = new Queue('votes', { connection: node.client });
  await queue.add('batch', encodeBatch(batch), { jobId: jobKey(batch.source, batch.seq) });
  await queue.close();
}
