import { execFileSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdirSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { auditSources } from '#db/audit.ts';
import { readNodes, requestRetirement } from '#db/nodes.ts';
import { ROOT } from '#dev/root.ts';
import { NODE_KEY } from '#job';
import { castAccepted, castCounted, isCounted, untilCounted } from '#kit/cast.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';
import { type ChaosSystem, type Frontend, startSystem, withRedis } from '../chaos/system.ts';

const RETIRED_MS_MAX = 30_000;
const RESCUE = join(ROOT, 'stack/swarm/rescue.sh');

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let system: ChaosSystem;

beforeAll(async () => {
  folder = await scratchFolder();
  system = await startSystem({ frontends: 2, workers: 1 });
});
afterAll(async () => {
  await system?.stop();
  await folder.remove();
});

/** A frontend dies with two votes that no worker has seen. Returns its id, their receipts and a copy of its disk. */
async function lose(frontend: Frontend) {
  await castCounted(system.db, frontend.url);
  const id = (await withRedis(frontend, (client) => client.get(NODE_KEY))) as string;
  frontend.proxy.refuse();
  const receipts = [await castAccepted(frontend.url), await castAccepted(frontend.url)];
  await Promise.all([frontend.handler.close('SIGKILL'), frontend.redis.end('SIGKILL')]);
  const copy = join(folder.path, frontend.name);
  cpSync(frontend.disk, copy, { recursive: true });
  const files = readdirSync(join(copy, 'appendonlydir')).filter((name) => name.endsWith('.incr.aof'));
  return { id, receipts, copy, file: join(copy, 'appendonlydir', files.toSorted().at(-1) as string) };
}

const repair = (copy: string) => execFileSync('bash', [RESCUE, 'repair', copy], { encoding: 'utf8' });

/** Starts a Redis on the copy, at the address where the workers expect the node. */
async function startOn(copy: string, frontend: Frontend): Promise<void> {
  for (const name of readdirSync(frontend.disk)) rmSync(join(frontend.disk, name), { recursive: true });
  cpSync(copy, frontend.disk, { recursive: true });
  await frontend.redis.startAndWait();
  frontend.proxy.allow();
}

/** Nothing is missing, and the node can be retired. */
async function untilClosed(id: string): Promise<void> {
  await requestRetirement(system.db, id, { who: 'test', why: 'its machine is gone' });
  await until(
    'the node is retired',
    async () => (await readNodes(system.db)).find((node) => node.id === id)?.state === 'retired',
    RETIRED_MS_MAX,
  );
  expect(
    (await auditSources(system.db)).filter(({ node, missingJobs }) => node === id && missingJobs > 0),
  ).toEqual([]);
}

test('a disk that ends in zeros is repaired, drained and accounted for', async () => {
  const frontend = system.frontends[0] as Frontend;
  const { id, receipts, copy, file } = await lose(frontend);
  expect(repair(copy)).toContain('is whole');
  appendFileSync(file, Buffer.alloc(4_096));
  expect(repair(copy)).toMatch(/Cut 4096 of \d+ bytes(.|\n)*They are zeros/);
  expect(repair(copy)).toContain('is whole');
  await startOn(copy, frontend);
  for (const receipt of receipts) await untilCounted(system.db, receipt);
  await untilClosed(id);
});

test('a torn end is cut, its jobs are named, and the rest is counted', async () => {
  const frontend = system.frontends[1] as Frontend;
  const { id, receipts, copy, file } = await lose(frontend);
  const [whole = '', torn = ''] = receipts;
  truncateSync(file, statSync(file).size - 10);
  const output = repair(copy);
  expect(output).toContain(torn);
  expect(output).not.toContain(whole);
  expect(readdirSync(copy).filter((name) => name.startsWith('cut-'))).toHaveLength(1);
  await startOn(copy, frontend);
  await untilCounted(system.db, whole);
  await untilClosed(id);
  expect(await isCounted(system.db, torn)).toBe(false);
});

test('refuses a folder without an append-only file', async () => {
  const empty = join(folder.path, 'empty');
  mkdirSync(empty);
  expect(() => repair(empty)).toThrow('holds no append-only file');
});
