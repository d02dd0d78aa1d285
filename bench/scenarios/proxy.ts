import type { LoadSpec } from '#kit/load/spec.ts';
import { enrolNode } from '#kit/node.ts';
import type { Component } from '../measure/proc.ts';
import { costPerVote } from '../measure/vote-cost.ts';
import { HOST } from '../testbed/proxy.ts';
import { Testbed } from '../testbed/testbed.ts';
import { latencyMetrics, runLoad, SLICE_SECONDS, WARM_UP_SECONDS } from './capture.ts';
import { interleave, type Scenario } from './scenario.ts';

const CONNECTIONS = 64;

interface Side {
  readonly name: string;
  readonly passesThrough: string;
  readonly kind: LoadSpec['kind'];
  readonly by: 'direct' | 'proxy' | 'proxy over TLS';
  /** Opens a connection for every request. */
  readonly isShortLived: boolean;
}

const SIDES: readonly Side[] = (['direct', 'proxy', 'proxy over TLS'] as const).flatMap((by) => {
  const before = by === 'direct' ? '' : 'HAProxy, ';
  const side = {
    by,
    kind: 'first',
    passesThrough: `${before}Hono, BullMQ, Redis`,
    isShortLived: false,
  } as const;
  return [
    { ...side, name: `${by}, votes` },
    { ...side, name: `${by}, a connection each`, isShortLived: true },
    {
      ...side,
      name: `${by}, page views`,
      kind: 'page',
      passesThrough: by === 'direct' ? 'Hono' : "HAProxy's cache",
    },
  ] satisfies readonly Side[];
});

/** What a vote and a page view cost the proxy, over connections that stay and over one for each, with TLS and without it. */
export const proxy: Scenario = {
  name: 'proxy',
  title: 'votes and page views through HAProxy and past it, over 64 connections that stay or one for each',
  run: async (bench) => {
    await Testbed.use(async (testbed) => {
      const load = testbed.startLoadProcess();
      const redis = await testbed.startRedis();
      await enrolNode(redis.client);
      const handler = await testbed.startHandler('bench01', redis.socket);
      const haproxy = await testbed.startProxy(handler);
      const components: readonly Component[] = [haproxy.component, handler.component, redis.component];
      const targets = {
        direct: { port: handler.port },
        proxy: { port: haproxy.port, hostHeader: HOST },
        'proxy over TLS': { port: haproxy.tlsPort, hostHeader: HOST, isTls: true, ca: haproxy.ca },
      } as const;
      const runSlice = ({ by, kind, isShortLived }: Side, seconds: number) =>
        runLoad(load, components, {
          targets: [targets[by]],
          kind,
          connections: CONNECTIONS,
          shortLived: isShortLived ? CONNECTIONS : 0,
          seconds,
        });
      for (const side of SIDES) {
        bench.progress(`warming up: ${side.name}`);
        await runSlice(side, WARM_UP_SECONDS);
      }
      for (const { round, side } of interleave(SIDES, bench.rounds * (bench.isQuick ? 1 : 2))) {
        bench.progress(`slice ${round}: ${side.name}`);
        const { result, usage } = await runSlice(side, SLICE_SECONDS);
        bench.record({
          scenario: 'proxy',
          side: side.name,
          round,
          params: { connections: CONNECTIONS },
          passesThrough: side.passesThrough,
          metrics: { ...latencyMetrics(result), ...costPerVote(usage, result.accepted) },
        });
      }
    });
  },
};
