import { describe, expect, test } from 'vitest';
import { ask } from '#kit/raw-http.ts';
import type { TestService } from '#kit/system.ts';
import {
  ANN,
  dashboard,
  INTERNALS,
  issuer,
  PASSWORD,
  POLL,
  results,
  VOTES,
  vote,
  worker,
} from './fixture.ts';

describe('an unauthenticated client', () => {
  const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'PURGE'];
  const READING = new Set(['GET', 'HEAD']);
  const CLOSED = new Set([401, 403, 404, 405]);
  const EVERYWHERE = [
    '/healthz',
    '/readyz',
    '/metrics',
    '/env',
    '/debug',
    '/admin',
    '/config',
    '/.env',
    '/.git/config',
    '/server-status',
    '/favicon.ico',
    '/robots.txt',
    '/polls',
    '/votes',
    '/receipts',
    '/ledger',
    '/queues',
    '/queues/',
    '/queues/api/queues',
    '/queues/api/queues/pause',
    '/queues/api/redis/stats',
    '/queues/static/favicon-32x32.png',
    '/queues/../ledger',
    '//ledger',
    '/./ledger',
    '/%2e%2e/etc/passwd',
    '/..%2f..%2fetc%2fpasswd',
    '/polls/../../metrics',
    '/static/../../package.json',
    '/vote.mjs',
    '/vote.mjs.map',
    '/node_modules/pg/package.json',
    `/polls/${POLL}/votes/1`,
    `/polls/${POLL}/voters`,
    '/__proto__',
    '/constructor',
  ];

  interface Port {
    readonly name: string;
    readonly service: () => TestService;
    /** Public by contract. */
    readonly open: readonly (readonly [
      path: string,
      methods: readonly string[],
      statuses: readonly number[],
    ])[];
  }
  const reading = [...READING];
  const PORTS: readonly Port[] = [
    {
      name: 'vote',
      service: () => vote,
      open: [
        ['/', reading, [200]],
        [`/polls/${POLL}`, reading, [200]],
        // Without a body there is no vote.
        [VOTES, ['POST'], [415]],
      ],
    },
    {
      name: 'results',
      service: () => results,
      open: [
        ['/', reading, [200]],
        [`/polls/${POLL}/results`, reading, [200]],
        [`/polls/${POLL}/results.csv`, reading, [200]],
        [`/polls/${POLL}/results/stream`, ['HEAD'], [200]],
        ['/receipts/one.t0-1.1', reading, [200]],
      ],
    },
    { name: 'dashboard', service: () => dashboard, open: [] },
    {
      name: 'issuer',
      service: () => issuer,
      // Without a body there is no credential.
      open: [['/tokens', ['POST'], [415]]],
    },
  ];

  test.each(PORTS)('reaches only the contract’s paths at $name', async ({ service, open }) => {
    const paths = [...new Set([...open.map(([path]) => path), ...EVERYWHERE])];
    const wrong: string[] = [];
    for (const path of paths) {
      const answers = await Promise.all(
        METHODS.filter((method) => !(path.endsWith('/stream') && method === 'GET')).map(async (method) => ({
          method,
          ...(await ask(service().url, path, method)),
        })),
      );
      for (const { method, status, headers, body } of answers) {
        const contract = open.find(([known, methods]) => known === path && methods.includes(method));
        const isRight = contract ? contract[2].includes(status) : CLOSED.has(status);
        if (!isRight) wrong.push(`${method} ${path} ${status}`);
        if (INTERNALS.test(body)) wrong.push(`${method} ${path} reveals internals: ${body.slice(0, 100)}`);
        if (headers['x-powered-by'] ?? headers['server'])
          wrong.push(`${method} ${path} names its server software`);
        if (headers['access-control-allow-origin']) wrong.push(`${method} ${path} lets other sites read`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('gets 401 for every path of the dashboard, with any invalid credentials', async () => {
    const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
    const invalid = [
      basic('ann:'),
      basic('ann'),
      basic(':'),
      basic(''),
      basic(`ANN:${PASSWORD}`),
      basic(`ann:${PASSWORD} `),
      basic(`ann:${PASSWORD}\0`),
      basic(`bob:${PASSWORD}`),
      basic('__proto__:x'),
      `Bearer ${PASSWORD}`,
      `Basic ann:${PASSWORD}`,
      'Basic',
      `${ANN.authorization}, ${ANN.authorization}`,
    ];
    for (const [index, authorization] of invalid.entries()) {
      // Of an address each, because an address is refused after a few.
      const headers = { authorization, 'x-forwarded-for': `192.0.2.${index}` };
      for (const path of ['/', '/ledger', '/queues', '/queues/api/queues', '/nowhere']) {
        expect((await ask(dashboard.url, path, 'GET', headers)).status, authorization).toBe(401);
      }
    }
    expect((await ask(dashboard.url, '/ledger', 'GET', ANN)).status).toBe(200);
  });

  test('on an admin port reaches only health, readiness and metrics, by GET and HEAD', async () => {
    const open = ['/healthz', '/readyz', '/metrics'];
    for (const service of [vote, worker, results, dashboard, issuer]) {
      for (const path of [
        ...open,
        '/',
        ...EVERYWHERE.filter((path) => !/^\/(healthz|readyz|startupz|metrics)$|\.\./.test(path)),
      ]) {
        for (const method of METHODS) {
          const { status, body } = await ask(service.adminUrl, path, method);
          const isOpen = open.includes(path) && READING.has(method);
          expect([method, path, isOpen ? [200, 503].includes(status) : status]).toEqual([
            method,
            path,
            isOpen ? true : 404,
          ]);
          expect(body).not.toMatch(INTERNALS);
        }
      }
    }
  });
});
