import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sql } from 'kysely';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { auditSources } from '#db/audit.ts';
import { foldReceipts } from '#db/fold.ts';
import { writeOffNode } from '#db/nodes.ts';
import { writeOffJobs } from '#db/write-off.ts';
import { ROOT } from '#dev/root.ts';
import { openCapture } from '#kit/capture.ts';
import { startDrain } from '#kit/drain.ts';
import { addJobs, enrolFor, writeEntry } from '#kit/ledger.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { freePort, scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { mirrorEntry } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, POLL, vote } from '#kit/votes.ts';

const AUDIT = join(ROOT, 'workers/audit/cli/main.ts');
const ONE = 'frontend01-aaaaaaaaaaaaa.t0-1';
const TWO = 'frontend02-bbbbbbbbbbbbb.t0-1';
const JOBS_AT_ONCE = 1_000;
/** More than a node lists in one response. */
const JOBS_OF_LONG_QUEUE = 20_100;
const AUDITS_IN_MOTION = 6;
const AUDIT_MS_MAX = 30_000;

interface AuditJson {
  readonly verdict: string;
  readonly total: Readonly<Record<string, number>>;
  readonly lostJobs: readonly string[];
  readonly foreign: readonly unknown[];
  readonly tallies: unknown;
  readonly unreachable: readonly { readonly what: string }[];
}

let database: TestDatabase;
let first: TestRedis;
let second: TestRedis;
let folder: Awaited<ReturnType<typeof scratchFolder>>;
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  database = await createDatabase();
  [first, second, folder] = await Promise.all([startRedis(), startRedis(), scratchFolder()]);
  cleanups.push(
    () => database.remove(),
    () => first.remove(),
    () => second.remove(),
    () => folder.remove(),
  );
  await enrolFor(first.client, ONE);
  await enrolFor(second.client, TWO);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** Runs the audit; `where` is its environment. */
function audit(
  args: readonly string[] = [],
  where: Record<string, string> = {
    DATABASE_URL: database.url,
    QUEUE_NODES: `${first.socket},${second.socket}`,
  },
  read: 'stdout' | 'all' = 'all',
) {
  const env = { PATH: process.env['PATH'], TZ: 'UTC', ...where };
  const options = { env, timeout: AUDIT_MS_MAX, killSignal: 'SIGKILL' } as const;
  return new Promise<{ code: unknown; output: string }>((resolve) => {
    execFile(process.execPath, [AUDIT, ...args], options, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, output: read === 'all' ? stdout + stderr : stdout }),
    );
  });
}

async function auditAsJson() {
  const { code, output } = await audit(['--json']);
  return { code, ...(JSON.parse(output) as AuditJson) };
}

/** Captures jobs of one vote each, by different voters. */
async function captureJobs({ client }: TestRedis, source: string, jobs: number): Promise<void> {
  const offset = source === ONE ? 0 : 100_000;
  const jobOf = (seq: number) => batch(seq, [vote(offset + seq, 'cats', seq)], source);
  for (let from = 1; from <= jobs; from += JOBS_AT_ONCE) {
    const length = Math.min(JOBS_AT_ONCE, jobs - from + 1);
    await addJobs(
      client,
      Array.from({ length }, (_, index) => jobOf(from + index)),
    );
  }
  await writeEntry(client, source, { seq: jobs, votes: jobs });
}

/** Starts draining both nodes. */
const drain = () => startDrain({ db: database.db, sockets: [first.socket, second.socket] });

async function drainAll(jobs: number): Promise<void> {
  const { stop } = await drain();
  cleanups.push(stop);
  await until('all is counted', async () => {
    const sources = await auditSources(database.db);
    return sources.reduce((sum, source) => sum + source.jobs, 0) === jobs;
  });
  await until('all is acknowledged', async () => (await first.client.keys('bull:votes:*.*')).length === 0);
  await stop();
}

describe('the audit', () => {
  test('finds no loss while votes wait and after they are counted', async () => {
    await captureJobs(first, ONE, 5);
    await captureJobs(second, TWO, 3);
    expect(await auditAsJson()).toMatchObject({
      code: 0,
      verdict: 'good',
      total: { accepted: 8, pending: 8, lost: 0 },
    });
    await drainAll(8);
    const { code, output } = await audit();
    expect(output).toMatch(/^all +8 +8 +0 +0 +0 +0 +0 +0 +0$/m);
    expect(output).toContain('Nothing is lost');
    expect(output).not.toContain('\u001b');
    expect(code).toBe(0);
  });

  test.each([
    [
      'with its entry in the queue',
      async (key: string) => {
        await first.client.lrem('bull:votes:wait', 1, key);
        await first.client.del(`bull:votes:${key}`);
      },
    ],
    ['only by its data', (key: string) => first.client.del(`bull:votes:${key}`)],
    ['only from the list', (key: string) => first.client.lrem('bull:votes:wait', 1, key)],
  ])('lists a job that was deleted from Redis, %s', async (_how, remove) => {
    await captureJobs(first, ONE, 150);
    await remove(`${ONE}.142`);
    const { code, output } = await audit();
    expect(output).toContain('LOST: 1 job with 1 vote');
    expect(output.split('\n')).toContain(`  ${ONE}.142`);
    expect(code).toBe(1);
    expect(await auditAsJson()).toMatchObject({ code: 1, verdict: 'bad', lostJobs: [`${ONE}.142`] });
  });

  test('lists a deleted job when all others are counted, and the first 20 of many', async () => {
    await captureJobs(first, ONE, 30);
    for (let seq = 4; seq <= 28; seq++) {
      await first.client.lrem('bull:votes:wait', 1, `${ONE}.${seq}`);
      await first.client.del(`bull:votes:${ONE}.${seq}`);
    }
    await drainAll(5);
    const { code, output } = await audit();
    expect(output).toContain(`  ${ONE}.23\n  and 5 more`);
    expect(code).toBe(1);
    expect((await auditAsJson()).lostJobs.length).toBe(25);
  });

  test('lists a job that was deleted from a queue too long to list', async () => {
    await captureJobs(first, ONE, JOBS_OF_LONG_QUEUE);
    await first.client.del(`bull:votes:${ONE}.19999`);
    const { total, lostJobs } = await auditAsJson();
    expect(lostJobs).toEqual([`${ONE}.19999`]);
    expect(total).toMatchObject({ accepted: JOBS_OF_LONG_QUEUE, pending: JOBS_OF_LONG_QUEUE - 1, lost: 1 });
  });

  test('recounts the votes and finds a manipulated tally on request only', async () => {
    await captureJobs(first, ONE, 2);
    await captureJobs(second, TWO, 0);
    await drainAll(2);
    await sql`insert into tallies select poll_no, choice_no, 99, 1 from tallies limit 1`.execute(database.db);
    const plain = await audit();
    expect(plain.output).toContain('Tallies were not recounted');
    expect(plain.code).toBe(0);
    expect(await auditAsJson()).toMatchObject({ verdict: 'good', tallies: null });
    const { code, output } = await audit(['--recount']);
    expect(output).toMatch(/^Recounting all votes … done \(.* s\)$/m);
    expect(output).toContain(`The tally of ${POLL}/cats is 3, but a recount gives 2.`);
    expect(code).toBe(1);
  });

  test('finds votes that the receipts lack, although no job is missing', async () => {
    await captureJobs(first, ONE, 2);
    await drainAll(2);
    await writeEntry(first.client, ONE, { seq: 2, votes: 9 });
    const { code, output } = await audit();
    expect(output).toContain(`LOST: 7 votes of ${ONE}: its ledger counts them`);
    expect(code).toBe(1);
  });

  test('alarms about entries and jobs of another node, and accounts for neither', async () => {
    await captureJobs(first, ONE, 1);
    await captureJobs(second, TWO, 1);
    await captureJobs(second, ONE, 3);
    expect(await auditAsJson()).toMatchObject({
      code: 1,
      verdict: 'bad',
      total: { accepted: 2, pending: 2, lost: 0 },
      foreign: [{ source: ONE, address: second.socket, isInLedger: true, jobs: 3 }],
    });
    expect((await audit()).output).toContain(
      `ALARM: ${second.socket} holds ${ONE}, a source of another node`,
    );
  });

  test('names the node that is down, and accounts for the rest', async () => {
    await captureJobs(first, ONE, 2);
    await captureJobs(second, TWO, 1);
    await mirrorEntry(database.db, TWO, { seq: 1, votes: 1 }, Date.now() - 1_000);
    await second.down('SIGKILL');
    const { code, output } = await audit();
    expect(output).toContain(`Unreachable: ${second.socket}: not connected (ECONNREFUSED)`);
    expect(output).toMatch(/Unreachable: frontend02 \(bbbbbbbbbbbbb\): .* 1 job that it accepted/);
    expect(output).toMatch(/^all +3 /m);
    expect(code).toBe(2);
    await first.client.del(`bull:votes:${ONE}.2`);
    expect(await auditAsJson()).toMatchObject({ code: 1, verdict: 'bad', total: { lost: 1, pending: 2 } });
  });

  test('shows what is missing from a written-off node as such while the node is down', async () => {
    await captureJobs(first, ONE, 1);
    await captureJobs(second, TWO, 2);
    await mirrorEntry(database.db, TWO, { seq: 2, votes: 2 }, Date.now() - 1_000);
    await second.down('SIGKILL');
    await writeOffNode(database.db, 'frontend02', { who: 'ann', why: 'its disk died' });
    const { code, output } = await audit();
    expect(output).toContain('Written off: frontend02 (bbbbbbbbbbbbb) with 2 known votes: its disk died');
    expect(output).not.toContain('Unreachable');
    expect(output).not.toContain('LOST:');
    expect(code).toBe(0);
    await second.up();
    expect(await auditAsJson()).toMatchObject({ code: 0, total: { accepted: 3, pending: 3, writtenOff: 0 } });
  });

  test('names a lost job until it is written off, and then the write-off', async () => {
    await captureJobs(first, ONE, 2);
    await first.client.lrem('bull:votes:wait', 1, `${ONE}.1`);
    await first.client.del(`bull:votes:${ONE}.1`);
    await drainAll(1);
    await mirrorEntry(database.db, ONE, { seq: 2, votes: 2 });
    expect(await auditAsJson()).toMatchObject({ code: 1, lostJobs: [`${ONE}.1`] });
    await writeOffJobs(database.db, [{ source: ONE, seq: 1 }], { who: 'ann', why: 'it is gone' });
    for (const step of [async () => {}, () => foldReceipts(database.db)]) {
      await step();
      const { code, output } = await audit();
      expect(output).toContain(`Written off: job ${ONE}.1: it is gone`);
      expect(code).toBe(0);
      expect(await auditAsJson()).toMatchObject({
        total: { accepted: 2, counted: 1, writtenOff: 1, lost: 0 },
      });
    }
  });

  test('does not expect a retired node', async () => {
    const { db } = database;
    await captureJobs(first, ONE, 1);
    await mirrorEntry(db, 'frontend03-ccccccccccccc.t0-1', { seq: 0, votes: 0 });
    const where = { DATABASE_URL: database.url, QUEUE_NODES: first.socket };
    expect((await audit([], where)).output).toContain('Unreachable: frontend03 (ccccccccccccc)');
    await db.updateTable('nodes').set({ retired_at: new Date() }).execute();
    const { code, output } = await audit([], where);
    expect(output).not.toContain('Unreachable');
    expect(code).toBe(0);
  });

  test('reports Postgres and nodes that are down', async () => {
    const port = await freePort();
    await second.down('SIGKILL');
    const { code, output } = await audit([], {
      DATABASE_URL: `postgres://turnout@127.0.0.1:${port}/nothing`,
      QUEUE_NODES: `${first.socket},${second.socket}`,
    });
    expect(output).toMatch(/^Unreachable: Postgres: .*ECONNREFUSED/m);
    expect(output).toContain(`Unreachable: ${second.socket}`);
    expect(output).not.toContain(first.socket);
    expect(code).toBe(2);
  });

  test('reports no loss while votes are captured and counted', async () => {
    const { capture, close } = await openCapture(first.socket, ONE, 2);
    const { stop } = await drain();
    let isOver = false;
    let voter = 0;
    const voting = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        voter += 1;
        await capture.capture(vote(voter, 'cats', voter));
      }
    });
    try {
      for (let round = 1; round <= AUDITS_IN_MOTION; round++) {
        const { code, total, unreachable } = await auditAsJson();
        expect({ code, lost: total['lost'], unreachable }).toEqual({ code: 0, lost: 0, unreachable: [] });
      }
    } finally {
      isOver = true;
      await Promise.allSettled(voting);
      await stop();
      await close();
    }
    expect((await auditAsJson()).total['accepted']).toBe(voter);
  });

  test('reports how votes came in, for all polls or one, as text or JSON', async () => {
    await captureJobs(first, ONE, 5);
    await drainAll(5);
    const { code, output } = await audit(['--anomalies']);
    expect(output).toContain('Reading the votes of cats-vs-dogs … done');
    expect(output).toMatch(/^frontend01 \(a+\) +5 +100\.0 %$/m);
    expect(output).toContain('POLL BEST-SNACK');
    expect(code).toBe(0);
    const one = await audit(['--anomalies', '--json', '--poll', POLL], undefined, 'stdout');
    expect(JSON.parse(one.output)).toMatchObject({ polls: [{ poll: POLL, times: { votes: 5 } }] });
    const none = await audit(['--anomalies', '--poll', 'nothing']);
    expect(none).toMatchObject({ code: 2, output: expect.stringContaining('there is no poll nothing') });
  });

  test('says in one line that Postgres is down, when asked how votes came in', async () => {
    const where = { DATABASE_URL: `postgres://x@127.0.0.1:${await freePort()}/x`, QUEUE_NODES: first.socket };
    const { code, output } = await audit(['--anomalies'], where);
    expect(output).toMatch(/^Postgres cannot be read: .*ECONNREFUSED.*\n$/);
    expect(code).toBe(2);
  });
});

describe('without settings in the environment', () => {
  /** Creates a data folder like that of `npm start`, with the sockets of these nodes. */
  async function dataFolder(...nodes: TestRedis[]): Promise<string> {
    const data = join(folder.path, 'd');
    await mkdir(join(data, 'secrets'), { recursive: true });
    await writeFile(join(data, 'secrets/database.url'), `${database.url}\n`);
    await writeFile(join(data, 'queue-nodes'), `${nodes.map(({ socket }) => socket).join()}\n`);
    return data;
  }

  test('audits the data folder of npm start', async () => {
    await captureJobs(first, ONE, 2);
    await captureJobs(second, TWO, 1);
    const data = await dataFolder(first, second);
    const { code, output } = await audit(['--data', data], {});
    expect(output).toMatch(/^all +3 /m);
    expect(code).toBe(0);
    await second.down('SIGKILL');
    const down = await audit(['--data', data], {});
    expect(down.output).toContain(`Unreachable: ${second.socket}: not connected`);
    expect(down.code).toBe(2);
  });

  test.each([
    [['--data', '/nowhere/at/all'], 'no system in /nowhere/at/all'],
    [['--nope'], "Unknown option '--nope' (see --help)"],
  ])('%j is refused in one line', async (args, line) => {
    const { code, output } = await audit(args, {});
    expect(output.trimEnd().split('\n')).toEqual([expect.stringContaining(line)]);
    expect(code).toBe(2);
  });
});
