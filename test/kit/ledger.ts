import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import {
  type Batch,
  encodeBatch,
  formatLedgerEntry,
  formatSeal,
  JOB_NAME,
  jobKey,
  LEDGER_KEY,
  type LedgerEntry,
  NODE_KEY,
  nodeOf,
  QUEUE_NAME,
  SEALED_KEY,
  type Seal,
  sealField,
} from '#job';

/** Gives a Redis the id of the source's node, as a worker does that enrols the node. */
export async function enrolFor(client: Redis, source: string): Promise<void> {
  await client.set(NODE_KEY, nodeOf(source).id);
}

/** Writes a source's totals to the ledger. */
export async function writeEntry(client: Redis, source: string, entry: LedgerEntry): Promise<void> {
  await client.hset(LEDGER_KEY, source, formatLedgerEntry(entry));
}

/** Adds jobs to the queue as a handler does, without the ledger. */
export async function addJobs(client: Redis, batches: readonly Batch[]): Promise<void> {
  const queue = new Queue(QUEUE_NAME, { connection: client });
  await queue.addBulk(
    batches.map((batch) => ({
      name: JOB_NAME,
      data: encodeBatch(batch),
      opts: { jobId: jobKey(batch.source, batch.seq) },
    })),
  );
  await queue.close();
}

/** Adds the jobs of one source to the queue, and its totals to the ledger. */
export async function writeJobs(client: Redis, source: string, batches: readonly Batch[]): Promise<void> {
  await addJobs(client, batches);
  const seq = Math.max(0, ...batches.map((batch) => batch.seq));
  const votes = batches.reduce((sum, batch) => sum + batch.votes.length, 0);
  await writeEntry(client, source, { seq, votes });
}

/** Seals a poll for a source. */
export async function writeSeal(client: Redis, source: string, poll: string, seal: Seal): Promise<void> {
  await client.hset(SEALED_KEY, sealField(source, poll), formatSeal(seal));
}
