import { expect, test } from 'vitest';
import { type Kind, type PlanInput, planServices, STOP_ORDER } from '#dev/start/plan.ts';
import { BASE_PORT_MAX, BASE_PORT_MIN } from '#dev/start/ports.ts';
import { VOTE_NODE_FLAGS } from '#runtime/node-flags.ts';

/** The start of Linux's range of ephemeral ports. */
const EPHEMERAL_PORT_MIN = 32_768;

function input(change: Partial<PlanInput> = {}): PlanInput {
  return {
    options: { frontends: 2, workers: 2, port: 8080, data: '.turnout' },
    data: '/data',
    dist: '/dist',
    node: '/bin/node',
    pollsFile: '/polls.json',
    secrets: { voterKeyFile: '/s/key', dashboardUsersFile: '/s/users', databaseUrlFile: '/s/url' },
    environment: { PATH: '/bin', VOTES_PER_JOB_MAX: '7' },
    issuer: undefined,
    sockets: ['/data/frontend01/redis.sock', '/data/frontend02/redis.sock'],
    redis: ({ dir, socket }) => ({ command: 'redis-server', args: [dir, socket] }),
    postgres: { command: 'postgres', args: [] },
    ...change,
  };
}

const namesOf = (change?: Partial<PlanInput>) => planServices(input(change)).map(({ name }) => name);

test('plans a Redis and a vote handler for each frontend, and the processes that count', () => {
  expect(namesOf()).toEqual([
    'postgres',
    'frontend01-redis',
    'frontend01-vote',
    'frontend02-redis',
    'frontend02-vote',
    'worker01',
    'worker02',
    'results',
    'dashboard',
  ]);
});

test('plans no Postgres when DATABASE_URL names one', () => {
  expect(namesOf({ postgres: undefined })).not.toContain('postgres');
});

test('plans an issuer where it has settings, and gives its secrets to no other process', () => {
  const services = planServices(input({ issuer: { SITEVERIFY_SECRET_FILE: '/s/siteverify' } }));
  expect(services.at(-1)).toMatchObject({
    name: 'issuer',
    env: {
      PORT: '8085',
      ADMIN_PORT: '9085',
      VOTER_KEY_FILE: '/s/key',
      SITEVERIFY_SECRET_FILE: '/s/siteverify',
    },
  });
  const others = services.filter(({ kind }) => kind !== 'issuer');
  expect(JSON.stringify(others)).not.toContain('/s/siteverify');
});

test('gives each process exactly the environment it needs', () => {
  const environments = Object.fromEntries(planServices(input()).map(({ name, env }) => [name, env]));
  const common = { PATH: '/bin', VOTES_PER_JOB_MAX: '7', NODE_ENV: 'production', TZ: 'UTC' };
  const queues = '/data/frontend01/redis.sock,/data/frontend02/redis.sock';
  expect(environments).toEqual({
    postgres: common,
    'frontend01-redis': common,
    'frontend01-vote': {
      ...common,
      PORT: '8080',
      ADMIN_PORT: '9080',
      TURNOUT_NODE: 'frontend01',
      REDIS_URL: '/data/frontend01/redis.sock',
      VOTER_KEY_FILE: '/s/key',
      RECEIPTS_URL: 'http://localhost:8081',
    },
    'frontend02-redis': common,
    'frontend02-vote': {
      ...common,
      PORT: '8090',
      ADMIN_PORT: '9090',
      TURNOUT_NODE: 'frontend02',
      REDIS_URL: '/data/frontend02/redis.sock',
      VOTER_KEY_FILE: '/s/key',
      RECEIPTS_URL: 'http://localhost:8081',
    },
    worker01: {
      ...common,
      ADMIN_PORT: '9083',
      TURNOUT_NODE: 'worker01',
      QUEUE_NODES: queues,
      DATABASE_URL_FILE: '/s/url',
      POLLS_FILE: '/polls.json',
    },
    worker02: {
      ...common,
      ADMIN_PORT: '9093',
      TURNOUT_NODE: 'worker02',
      QUEUE_NODES: queues,
      DATABASE_URL_FILE: '/s/url',
      POLLS_FILE: '/polls.json',
    },
    results: {
      ...common,
      PORT: '8081',
      ADMIN_PORT: '9081',
      DATABASE_URL_FILE: '/s/url',
      RECEIPTS_URL: 'http://localhost:8081',
      VOTE_URL: 'http://localhost:8080',
    },
    dashboard: {
      ...common,
      PORT: '8082',
      ADMIN_PORT: '9082',
      DATABASE_URL_FILE: '/s/url',
      QUEUE_NODES: queues,
      DASHBOARD_USERS_FILE: '/s/users',
      RECEIPTS_URL: 'http://localhost:8081',
    },
  });
});

test('runs the bundles with the Node that runs the plan, the vote handler with its flags', () => {
  const commandOf = (wanted: string) => planServices(input()).find(({ name }) => name === wanted)?.command;
  expect(commandOf('results')).toEqual({ command: '/bin/node', args: ['/dist/results.mjs'] });
  const args = [...VOTE_NODE_FLAGS, '/dist/vote.mjs'];
  expect(commandOf('frontend02-vote')).toEqual({ command: '/bin/node', args });
});

test.each([BASE_PORT_MIN, 8080, BASE_PORT_MAX])(
  'gives the largest system distinct ports outside the ephemeral range (base %i)',
  (port) => {
    const sockets = Array.from({ length: 32 }, (_, index) => `/s${index}`);
    const options = { frontends: 32, workers: 32, port, data: '.turnout' };
    const used = planServices(input({ options, sockets })).flatMap(({ ports }) =>
      ports.map((entry) => entry.port),
    );
    expect(used).toHaveLength(1 + 32 * 2 + 32 + 2 + 2);
    expect(new Set(used).size).toBe(used.length);
    expect(Math.min(...used)).toBeGreaterThanOrEqual(1024);
    expect(Math.max(...used)).toBeLessThan(EPHEMERAL_PORT_MIN);
  },
);

test('stops every kind of service: stores last, Postgres with its fast shutdown', () => {
  const kinds = new Set<Kind>(planServices(input({ issuer: {} })).map(({ kind }) => kind));
  expect(new Set(STOP_ORDER.flat())).toEqual(kinds);
  expect(STOP_ORDER.flat()[0]).toBe('vote');
  expect(STOP_ORDER.flat().slice(-2)).toEqual(['redis', 'postgres']);
  const postgres = planServices(input()).find(({ kind }) => kind === 'postgres');
  expect(postgres?.stopSignal).toBe('SIGINT');
});
