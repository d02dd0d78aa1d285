import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';
import { readPollsFile } from '#runtime/polls.ts';
import { compare, POLL, readPolls, untilCounted } from './system.ts';
import type { Sent } from './voters.ts';
import { untilAccepts, votersOf } from './voting.ts';

const FRONTENDS = 4;
const TONIGHT = 'tonight';
const HOUR_MS = 3_600_000;
const APPLIED_MS_MAX = 60_000;
/** From the command to the last handler that accepts no more votes, and from the close to the final result. */
const CLOSED_MS_MAX = 5_000;
const FINAL_MS_MAX = 15_000;
const SENT_MS_MAX = 60_000;

const refused = (sent: readonly Sent[]): Sent[] => sent.filter(({ status }) => status !== 202);

/** Polls that operators change while people vote. */
export function testControl(cluster: Cluster): void {
  const [pets] = readPollsFile(join(ROOT, 'stack/polls.json')).polls;
  const choices = ['cats', 'dogs'].map((id) => ({ id, label: id }));

  /** Deploys a polls file, and waits until every node and handler has taken the question of the open poll. */
  async function deployPolls(version: number, question: string, others: readonly object[]): Promise<void> {
    const folder = await scratchFolder();
    try {
      const file = join(folder.path, 'polls.json');
      await writeFile(file, JSON.stringify({ version, polls: [{ ...pets, question }, ...others] }));
      await cluster.deploy({ POLLS_FILE: file });
    } finally {
      await folder.remove();
    }
    await until(
      `version ${version} is taken`,
      async () => {
        const poll = (await readPolls(cluster)).find(({ id }) => id === POLL);
        const missing = poll && [...poll.nodes.missing, ...poll.handlers.missing];
        return poll?.question === question && missing?.length === 0;
      },
      APPLIED_MS_MAX,
    );
  }

  const command = (...args: string[]): Promise<string> =>
    cluster.manager.script('polls.sh', [...args, '--reason', 'the host talks'], { env: cluster.settings });

  test('extends and closes a poll under load: closed everywhere within 5 s, final within 15 s, nothing lost', async () => {
    while (cluster.engines('frontend').length < FRONTENDS) await cluster.addNode('frontend');
    const closesAt = Date.now() + HOUR_MS;
    const tonight = {
      id: TONIGHT,
      question: 'Tonight?',
      choices,
      closesAt: new Date(closesAt).toISOString(),
    };
    await deployPolls(2, 'Cats or dogs, tonight?', [tonight]);

    const voters = votersOf(cluster, 8, TONIGHT).start();
    for (const { node } of cluster.engines('frontend')) await untilAccepts(voters, node.name);
    expect(await command('extend', TONIGHT, '--minutes', '5')).toMatch(/Taken by (\d+) of \1 nodes/);
    const extended = (await readPolls(cluster)).find(({ id }) => id === TONIGHT);
    expect(extended?.closesAt).toBe(new Date(closesAt + 5 * 60_000).toISOString());
    expect(refused(voters.sent)).toEqual([]);

    const closedAt = performance.now();
    const said = await command('close', TONIGHT);
    await until(
      '100 votes are sent after the deadline',
      () => voters.since(closedAt + CLOSED_MS_MAX).length >= 100,
      SENT_MS_MAX,
    );
    await voters.stop();
    const late = voters.since(closedAt + CLOSED_MS_MAX);
    expect(new Set(late.map(({ status }) => status))).toEqual(new Set([403]));
    expect(new Set(refused(voters.sent).map(({ status }) => status))).toEqual(new Set([403]));
    expect(said).toMatch(/Taken by (\d+) of \1 nodes and (\d+) of \2 handlers, within/);

    const final = await until(
      'the poll is final',
      async () => (await readPolls(cluster)).find(({ id, finalAt }) => id === TONIGHT && finalAt !== null),
      FINAL_MS_MAX,
    );
    const finalAfterMs = Date.parse(final.finalAt ?? '') - Date.parse(final.closedAt ?? '');
    console.log(`${said}\nfinal ${finalAfterMs} ms after the close`);
    expect(finalAfterMs).toBeLessThan(FINAL_MS_MAX);
    expect((await untilCounted(cluster, voters)).total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('deploys an older content under a higher version under load, without refusing a vote', async () => {
    const voters = votersOf(cluster, 8).start();
    await deployPolls(3, pets?.question ?? '', []);
    const from = voters.sent.length;
    await until('100 more votes', () => voters.sent.length >= from + 100, SENT_MS_MAX);
    await voters.stop();
    expect(refused(voters.sent)).toEqual([]);
    // A final poll stays as it is, although the file no longer contains it.
    expect((await readPolls(cluster)).find(({ id }) => id === TONIGHT)).toMatchObject({ phase: 'final' });
    expect((await untilCounted(cluster, voters)).total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);
  });
}
