import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { findProgram } from '#dev/path.mjs';
import { ROOT } from '#dev/root.ts';
import { type GuardedRedis, startGuardedRedis } from '#kit/guarded-redis.ts';
import {
  haproxyIsMissing,
  OPERATOR,
  service,
  startDns,
  startDocker,
  startHaProxy,
  type TestHaProxy,
} from '#kit/haproxy.ts';
import { createDatabase } from '#kit/postgres.ts';
import {
  freePort,
  scratchFolder,
  startNode,
  startProgram,
  type TestProcess,
  untilReady,
} from '#kit/process.ts';
import { applyRoles, createRoleUrls } from '#kit/roles.ts';
import { startService, type TestService, VOTER_KEY } from '#kit/system.ts';
import { until } from '#kit/until.ts';

const OBSERVABILITY = join(ROOT, 'stack/observability');
const README = join(OBSERVABILITY, 'README.md');
const COLLECTORS = ['public', 'backoffice', 'capture', 'control'] as const;
const VOTES = '/polls/cats-vs-dogs/votes';
/** Votes cast while all is well, and again while Redis is down. */
const CROWD = 500;
/** Lines of all processes meanwhile: each message at most every 10 s. */
const LINES_MAX = 40;
/** Longer than the longest `for` of an alert that a test waits for. */
const ALERT_MS_MAX = 90_000;
/** Prometheus and five processes start at once on a loaded machine. */
const SCRAPED_MS_MAX = 60_000;

interface ScrapeJob {
  readonly job_name: string;
}

/** Metrics that have no value here: no site has a certificate. */
const LABELS_WITHOUT_VALUE = new Map([
  ['turnout_interlock_certificate_expiry_timestamp_seconds', ['certificate']],
]);

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: GuardedRedis;
let haproxy: TestHaProxy;
let vote: TestService;
let worker: TestService;
/** The address of each admin port, by the name of its job. */
const targets = new Map<string, string>();
const logs: string[] = [];
const cleanups: (() => Promise<unknown>)[] = [];

describe.skipIf(haproxyIsMissing)('real processes', () => {
  beforeAll(startSystem, 120_000);
  afterAll(async () => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  });

  test('export the metrics that the README lists, and no others', async () => {
    expect(await castVote()).toBe(202);
    const table = await until('each metric has a value', async () => {
      const metrics = (await Promise.all([...targets].map(readMetrics))).flat();
      return metrics.every(({ labels }) => labels !== undefined) && toTable(metrics);
    });
    const text = readFileSync(README, 'utf8');
    await expect(text.replace(/(?<=<!-- metrics -->\n).*(?=<!-- end -->)/s, () => table)).toMatchFileSnapshot(
      README,
    );
  });

  test('rules and dashboard use no metric of Turnout that is not exported', () => {
    const text = readFileSync(README, 'utf8');
    const used = ['rules.yml', 'grafana/turnout.json'].flatMap((name) =>
      [...readFileSync(join(OBSERVABILITY, name), 'utf8').matchAll(/\bturnout_\w+/g)].map(
        ([metric]) => metric,
      ),
    );
    expect(used.length).toBeGreaterThan(0);
    const missing = used.filter((name) => !text.includes(`\`${name.replace(/_(bucket|count|sum)$/, '')}\``));
    expect(missing).toEqual([]);
  });

  test('a crowd adds a few lines to the logs, during a fault as well, and no line has a voter', async () => {
    const before = await readLines();
    const voters = new Set<string>();
    await castVotes(CROWD, voters);
    expect(voters.size).toBe(CROWD);
    await redis.down();
    const refused = await castVotes(CROWD, voters);
    await redis.up();
    expect(refused).toEqual(new Set([503]));
    await until('votes are accepted again', async () => (await castVote()) === 202);
    const lines = (await readLines()).slice(before.length);
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.length).toBeLessThan(LINES_MAX);
    for (const line of lines) {
      expect(JSON.parse(line)).toMatchObject({
        time: expect.any(String),
        level: expect.any(String),
        process: expect.any(String),
        message: expect.any(String),
      });
    }
    const text = lines.join('');
    for (const token of voters) for (const part of token.split('.')) expect(text).not.toContain(part);
  });

  describe.skipIf(!findProgram('prometheus'))('scraped by Prometheus through the collectors', () => {
    let prometheus: string;
    beforeAll(async () => {
      prometheus = await startPrometheus();
    }, 120_000);

    const query = async (expression: string): Promise<number | undefined> => {
      const response = await fetch(`${prometheus}/api/v1/query?query=${encodeURIComponent(expression)}`);
      const { data } = (await response.json()) as { data: { result: { value: [number, string] }[] } };
      const value = data.result[0]?.value[1];
      return value === undefined ? undefined : Number(value);
    };
    const untilFiring = (alert: string): Promise<unknown> =>
      until(
        `${alert} fires`,
        async () => (await query(`count(ALERTS{alertname="${alert}",alertstate="firing"})`)) !== undefined,
        ALERT_MS_MAX,
      );
    const untilQuiet = (alert: string): Promise<unknown> =>
      until(
        `${alert} is resolved`,
        async () => (await query(`count(ALERTS{alertname="${alert}"})`)) === undefined,
        ALERT_MS_MAX,
      );

    test('every process is up and ready, and no alert fires', async () => {
      const jobs = [...targets.keys(), 'proxy'];
      await until(
        'all are scraped',
        async () => (await query(`count(up{job=~"${jobs.join('|')}"} == 1)`)) === jobs.length,
        SCRAPED_MS_MAX,
      );
      await until('all are ready', async () => (await query('sum(turnout_ready)')) === targets.size);
      await until(
        'the vote is scraped',
        async () => (await query('sum(turnout_votes_captured_total) > 0')) !== undefined,
      );
      await untilQuiet('TurnoutProcessGone');
      expect(await query('count(ALERTS{alertstate="firing"})')).toBeUndefined();
    });

    test('a Redis that fills up raises both alerts, which end with the cause', async () => {
      const used = Number(/^used_memory:(\d+)/m.exec(await redis.client.info('memory'))?.[1]);
      await redis.client.config('SET', 'maxmemory', Math.round(used / 0.87));
      await untilFiring('TurnoutRedisMemoryHigh');
      await untilFiring('TurnoutRedisMemoryCritical');
      await redis.client.config('SET', 'maxmemory', 1_000_000_000);
      await untilQuiet('TurnoutRedisMemoryHigh');
      await untilQuiet('TurnoutRedisMemoryCritical');
    });

    test('a job that cannot be read raises an alert', async () => {
      await redis.client.hset('bull:votes:unreadable', {
        name: 'votes',
        data: '{',
        opts: '{}',
        timestamp: '1',
      });
      await redis.client.lpush('bull:votes:wait', 'unreadable');
      await redis.client.zadd('bull:votes:marker', 0, '0');
      await untilFiring('TurnoutJobsFailed');
    });

    test('a node whose Redis is gone raises an alert', async () => {
      await redis.down();
      await untilFiring('TurnoutNodeUnreachable');
      await redis.up();
      await untilQuiet('TurnoutNodeUnreachable');
    }, 200_000);

    test('an accepted vote that is neither counted nor in a queue raises an alert', async () => {
      await until('votes are accepted again', async () => (await castVote()) === 202, ALERT_MS_MAX);
      // Frozen, so that the job stays in the queue until it is deleted there.
      worker.child.kill('SIGSTOP');
      try {
        expect(await castVote()).toBe(202);
        const jobs = await until('the job is in the queue', async () => {
          const waiting = await redis.client.lrange('bull:votes:wait', 0, -1);
          return waiting.length > 0 && waiting;
        });
        await redis.client.del('bull:votes:wait', ...jobs.map((id) => `bull:votes:${id}`));
      } finally {
        worker.child.kill('SIGCONT');
      }
      await untilFiring('TurnoutVotesLost');
    }, 200_000);
  });
});

/** Starts one process of each kind, each as the user that it is in production. */
async function startSystem(): Promise<void> {
  folder = await scratchFolder();
  cleanups.push(() => folder.remove());
  const database = await createDatabase();
  cleanups.push(() => database.remove());
  redis = await startGuardedRedis();
  cleanups.push(() => redis.remove());
  await applyRoles(database.url);
  const urls = await createRoleUrls(database.url);
  const start = async (options: Omit<Parameters<typeof startService>[0], 'folder'>): Promise<TestService> => {
    const process = await startService({ ...options, folder: folder.path });
    cleanups.push(() => process.end());
    logs.push(process.log);
    targets.set(options.bundle, new URL(process.adminUrl).host);
    return process;
  };
  // One after the other: together they take longer than each may on a loaded machine.
  worker = await start({
    bundle: 'worker',
    env: { DATABASE_URL: urls.turnout_worker, QUEUE_NODES: redis.url('worker') },
  });
  vote = await start({
    bundle: 'vote',
    env: { TURNOUT_NODE: 'one', REDIS_URL: redis.url('vote'), VOTER_KEY },
  });
  await start({ bundle: 'results', env: { DATABASE_URL: urls.turnout_results } });
  await start({
    bundle: 'issuer',
    env: { VOTER_KEY, CHALLENGE: 'turnstile:site', SITEVERIFY_SECRET: 'none' },
  });
  await start({
    bundle: 'dashboard',
    env: {
      DATABASE_URL: urls.turnout_dashboard,
      QUEUE_NODES: redis.url('dashboard'),
      DASHBOARD_USERS: 'sre:password1',
    },
  });
  await startRouting();
}

/** Starts HAProxy and Interlock with one service. */
async function startRouting(): Promise<void> {
  const dns = await startDns();
  cleanups.push(() => dns.close());
  const docker = await startDocker();
  cleanups.push(() => docker.close());
  haproxy = await startHaProxy(dns.port);
  cleanups.push(() => haproxy.remove());
  docker.networks.set('n1', 'net');
  docker.services.set('proxy', service('proxy', { proxy: 'true' }));
  docker.services.set('vote', service('vote', { hosts: 'vote.test', port: '1' }));
  const adminPort = await freePort();
  const interlock = startNode(
    join(ROOT, 'dist/interlock.mjs'),
    { ADMIN_PORT: String(adminPort), DOCKER_API_URL: docker.url, PROXY_DIR: haproxy.folder },
    join(folder.path, 'interlock.log'),
  );
  cleanups.push(() => interlock.end());
  await untilReady(interlock, adminPort);
  targets.set('interlock', `127.0.0.1:${adminPort}`);
}

async function postVote(): Promise<Response> {
  const response = await fetch(vote.url + VOTES, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"choice":"cats"}',
  });
  await response.arrayBuffer();
  return response;
}

const castVote = async (): Promise<number> => (await postVote()).status;

/** Casts votes, 50 at a time. Adds the tokens of new voters to `voters`; returns the statuses. */
async function castVotes(count: number, voters: Set<string>): Promise<Set<number>> {
  const statuses = new Set<number>();
  for (let cast = 0; cast < count; cast += 50) {
    const responses = await Promise.all(Array.from({ length: Math.min(50, count - cast) }, postVote));
    for (const response of responses) {
      statuses.add(response.status);
      const token = /turnout_voter=([^;]+)/.exec(response.headers.get('set-cookie') ?? '')?.[1];
      if (token) voters.add(token);
    }
  }
  return statuses;
}

/** Returns the lines that all processes have logged. */
async function readLines(): Promise<string[]> {
  const texts = await Promise.all(logs.map((log) => readFile(log, 'utf8')));
  return texts.flatMap((text) => text.split('\n').filter(Boolean));
}

interface Metric {
  readonly name: string;
  readonly type: string;
  /** `undefined` while it has no series. */
  readonly labels: readonly string[] | undefined;
  readonly job: string;
  readonly help: string;
}

/** Returns Turnout's own metrics of a process. */
async function readMetrics([job, host]: readonly [string, string]): Promise<Metric[]> {
  const text = await (await fetch(`http://${host}/metrics`)).text();
  return [...text.matchAll(/^# HELP (turnout_\w+) (.*)\n# TYPE \w+ (\w+)$/gm)].map(
    ([, name = '', help = '', type = '']) => {
      const series = new RegExp(`^${name}(?:_bucket)?\\{([^}]*)\\}`, 'm').exec(text)?.[1];
      const labels = series?.match(/\w+(?==")/g)?.filter((label) => label !== 'process' && label !== 'le');
      return { name, type, labels: labels ?? LABELS_WITHOUT_VALUE.get(name), job, help };
    },
  );
}

/** Renders a Markdown table: one line per metric. */
function toTable(metrics: readonly Metric[]): string {
  const lines = Map.groupBy(metrics, ({ name }) => name)
    .values()
    .map((same) => {
      const [{ name, type, labels = [], help }] = same as [Metric];
      const jobs = same.length === targets.size ? 'all' : same.map(({ job }) => job).join(', ');
      return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${jobs} | ${help} |\n`;
    });
  return `| metric | type | labels | process | meaning |\n|---|---|---|---|---|\n${[...lines].toSorted().join('')}`;
}

/**
 * Starts Prometheus and the collectors with the files of the stack, in which the names of tasks are replaced by the ports of this
 * test, and returns its address. Scrapes and evaluates every second.
 */
async function startPrometheus(): Promise<string> {
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  targets.set('prometheus', address);
  const addresses = new Map([...targets, ['proxy', `127.0.0.1:${haproxy.operatorsPort}`]]);
  targets.delete('prometheus');
  const localize = async (name: string): Promise<string> => {
    const config = parse(readFileSync(join(OBSERVABILITY, name), 'utf8')) as {
      global: object;
      scrape_configs: readonly ScrapeJob[];
      remote_write?: readonly object[];
    };
    const jobs = config.scrape_configs
      .filter(({ job_name }) => addresses.has(job_name))
      .map((job) => ({
        ...job,
        dns_sd_configs: undefined,
        static_configs: [{ targets: [addresses.get(job.job_name)] }],
        ...('basic_auth' in job && { basic_auth: { username: OPERATOR.name, password: OPERATOR.password } }),
      }));
    const path = join(folder.path, name);
    const local = {
      ...config,
      global: { scrape_interval: '1s', ...(name === 'prometheus.yml' && { evaluation_interval: '1s' }) },
      scrape_configs: jobs,
      ...(config.remote_write && { remote_write: [{ url: `http://${address}/api/v1/write` }] }),
      ...(name === 'prometheus.yml' && {
        alerting: undefined,
        rule_files: [join(OBSERVABILITY, 'rules.yml')],
      }),
    };
    await writeFile(path, stringify(JSON.parse(JSON.stringify(local))));
    return path;
  };
  const start = (name: string, args: readonly string[]): TestProcess => {
    const process = startProgram('prometheus', args, { log: join(folder.path, `${name}.log`) });
    cleanups.push(() => process.end());
    return process;
  };
  start('prometheus', [
    `--config.file=${await localize('prometheus.yml')}`,
    `--storage.tsdb.path=${join(folder.path, 'tsdb')}`,
    `--web.listen-address=${address}`,
    '--web.enable-remote-write-receiver',
  ]);
  for (const network of COLLECTORS) {
    const name = `collector-${network}`;
    start(name, [
      '--enable-feature=agent',
      `--config.file=${await localize(`${name}.yml`)}`,
      `--storage.agent.path=${join(folder.path, name)}`,
      `--web.listen-address=127.0.0.1:${await freePort()}`,
    ]);
  }
  await until(
    'Prometheus is ready',
    async () => (await fetch(`http://${address}/-/ready`)).ok,
    SCRAPED_MS_MAX,
  );
  return `http://${address}`;
}
