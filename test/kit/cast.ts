import type { Db } from '#db/client.ts';
import { readReceipt } from '#db/results.ts';
import { until } from './until.ts';
import { POLL } from './votes.ts';

const ANSWER_MS_MAX = 5_000;
const COUNTED_MS_MAX = 30_000;

/** Votes as a new voter until a vote is accepted; returns its receipt. */
export const castAccepted = (voteUrl: string, poll: string = POLL, msMax?: number): Promise<string> =>
  until(`${voteUrl} accepts a vote`, () => cast(voteUrl, poll), msMax);

async function cast(voteUrl: string, poll: string): Promise<string | undefined> {
  const response = await fetch(`${voteUrl}/polls/${poll}/votes`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"choice":"cats"}',
    signal: AbortSignal.timeout(ANSWER_MS_MAX),
  });
  return ((await response.json()) as { receipt?: string }).receipt;
}

/** The same, until it is counted. */
export async function castCounted(db: Db, voteUrl: string, poll?: string): Promise<string> {
  const receipt = await castAccepted(voteUrl, poll);
  await untilCounted(db, receipt);
  return receipt;
}

export const isCounted = async (db: Db, receipt: string): Promise<boolean> =>
  (await readReceipt(db, receipt)) === 'counted';

export async function untilCounted(db: Db, receipt: string, msMax: number = COUNTED_MS_MAX): Promise<void> {
  await until(`vote ${receipt} is counted`, () => isCounted(db, receipt), msMax);
}
