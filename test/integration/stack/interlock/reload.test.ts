import { once } from 'node:events';
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { until } from '#kit/until.ts';
import { ONLY_200, startLoad, useInterlock } from './fixture.ts';
import { untilRouted } from './interlock.ts';

/** Swarm's delay between removing a stopping task's name and sending the signal. */
const SWARM_STOP_DELAY_MS = 2_000;

describe.skipIf(haproxyIsMissing)('a change', () => {
  const at = useInterlock();

  /** Adds services one by one; each causes a reload. */
  const addServices = async (...names: string[]): Promise<void> => {
    for (const [index, name] of names.entries()) {
      await at.interlock.deploy(service(name, { hosts: `${name}.test`, port: at.port }), [
        `127.0.5.${100 + index}`,
      ]);
      await untilRouted(at.interlock, `${name}.test`);
    }
  };

  test('of other services drops no request', async () => {
    const load = await startLoad(at.interlock.haproxy.port, 'vote.test');
    await addServices('a', 'b', 'c', 'd');
    const answered = load.answered();
    await until('further requests were answered', () => load.answered() > answered + 100);
    expect(await load.stop()).toEqual(ONLY_200);
    const reloads = (): Promise<number | undefined> =>
      at.metric('turnout_interlock_reloads_total', { outcome: 'accepted' });
    await until('each service caused a reload', async () => (await reloads()) === 5);
  });

  test('of services that share the host drops no request', async () => {
    const load = await startLoad(at.interlock.haproxy.port, 'vote.test');
    await at.interlock.deploy(service('canary', { hosts: 'vote.test', port: at.port }), ['127.0.5.3']);
    await until(
      'the canary gets requests',
      async () => (await at.interlock.get('vote.test')).task === '127.0.5.3',
    );
    at.interlock.undeploy('canary');
    await until('the canary gets no request', async () => {
      const tasks = [1, 2, 3, 4].map(async () => (await at.interlock.get('vote.test')).task);
      return !(await Promise.all(tasks)).includes('127.0.5.3');
    });
    expect(await load.stop()).toEqual(ONLY_200);
  });

  test('to a task that stops gracefully drops no request', async () => {
    const leaving = await at.interlock.task('127.0.5.4');
    at.interlock.dns.names.set('tasks.vote.net', ['127.0.5.1', '127.0.5.2', '127.0.5.4']);
    const load = await startLoad(at.interlock.haproxy.port, 'vote.test');
    await until('the task gets requests', () => leaving.paths.length > 50);
    at.interlock.dns.names.set('tasks.vote.net', ['127.0.5.1', '127.0.5.2']);
    await sleep(SWARM_STOP_DELAY_MS);
    const served = leaving.paths.length;
    await leaving.close();
    const answered = load.answered();
    await until('further requests were answered', () => load.answered() > answered + 100);
    expect(leaving.paths.length).toBe(served);
    expect(await load.stop()).toEqual(ONLY_200);
  });

  test('lets an open response finish across any number of reloads', async () => {
    let finish = (): void => {};
    const slow = await at.interlock.task('127.0.5.60');
    at.interlock.dns.names.set('tasks.slow.net', ['127.0.5.60']);
    await at.interlock.deploy(service('slow', { hosts: 'slow.test', port: at.port }));
    await untilRouted(at.interlock, 'slow.test');
    slow.answer = (_request, response) => {
      response.write('first');
      finish = () => response.end(' last');
    };
    const sent = request(`${at.interlock.url}/`, { headers: { host: 'slow.test' }, agent: false });
    sent.end();
    const [answer] = await once(sent, 'response');
    let received = '';
    answer.on('data', (data: Buffer) => {
      received += data.toString();
    });
    await until('the first half', () => received === 'first');
    await addServices('e', 'f');
    finish();
    await once(answer, 'end');
    expect(received).toBe('first last');
  });
});
