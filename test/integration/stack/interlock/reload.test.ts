import { once } from 'node:events';
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { prepareLoad } from '#kit/load/generator.ts';
import { until } from '#kit/until.ts';
import { createAuthority } from './certificates.ts';
import { startInterlock, type TestInterlock, untilRouted } from './interlock.ts';

/** Between taking a stopping task's name away and sending it the signal, Swarm waits for this long. */
const SWARM_STOP_DELAY_MS = 2_000;
/** What a load must have been answered, and nothing else. */
const ONLY_200 = { 200: expect.anything() };

/** Sends requests without a pause: half of the clients keep their connection, half open one for each request. */
async function startLoad(port: number, hostHeader: string) {
  const load = await prepareLoad({
    targets: [{ port, hostHeader }],
    kind: 'first',
    connections: 6,
    shortLived: 3,
    seconds: Number.POSITIVE_INFINITY,
  });
  const result = load.run();
  return {
    answered: () => load.answered,
    /** Ends the load and returns its answers by status or error. */
    stop: async () => {
      load.stop();
      return (await result).answers;
    },
  };
}

describe.skipIf(haproxyIsMissing)('a change', () => {
  let interlock: TestInterlock;
  let port: string;
  beforeEach(async () => {
    interlock = await startInterlock();
    port = String(interlock.taskPort);
    await interlock.deploy(service('vote', { hosts: 'vote.test', port }), ['127.0.5.1', '127.0.5.2']);
    await untilRouted(interlock, 'vote.test');
  });
  afterEach(() => interlock.close());

  const errors = (): unknown[] =>
    interlock.lines
      .filter(({ level }) => level === 'error')
      .map(({ service: name, reason }) => [name, reason]);
  const told = (text: string): number =>
    interlock.lines.filter((line) => JSON.stringify(line).includes(text)).length;
  /** Each is a reload of its own. */
  const addServices = async (...names: string[]): Promise<void> => {
    for (const [index, name] of names.entries()) {
      await interlock.deploy(service(name, { hosts: `${name}.test`, port }), [`127.0.5.${100 + index}`]);
      await untilRouted(interlock, `${name}.test`);
    }
  };
  const metric = async (name: string, labels: Record<string, string>): Promise<number | undefined> => {
    const all = await interlock.registry.getSingleMetric(name)?.get();
    return all?.values.find(({ labels: seen }) => Object.entries(labels).every(([k, v]) => seen[k] === v))
      ?.value;
  };

  test('of other services drops no request', async () => {
    const load = await startLoad(interlock.haproxy.port, 'vote.test');
    await addServices('a', 'b', 'c', 'd');
    const answered = load.answered();
    await until('requests have passed since', () => load.answered() > answered + 100);
    expect(await load.stop()).toEqual(ONLY_200);
    const reloads = (): Promise<number | undefined> =>
      metric('turnout_interlock_reloads_total', { outcome: 'taken' });
    await until('each was a reload', async () => (await reloads()) === 5);
  });

  test('of the services that share the host drops no request either', async () => {
    const load = await startLoad(interlock.haproxy.port, 'vote.test');
    await interlock.deploy(service('canary', { hosts: 'vote.test', port }), ['127.0.5.3']);
    await until('the canary is used', async () => (await interlock.get('vote.test')).task === '127.0.5.3');
    interlock.undeploy('canary');
    await until('the canary is not used', async () => {
      const tasks = [1, 2, 3, 4].map(async () => (await interlock.get('vote.test')).task);
      return !(await Promise.all(tasks)).includes('127.0.5.3');
    });
    expect(await load.stop()).toEqual(ONLY_200);
  });

  test('of a task, when it is stopped in order, drops no request', async () => {
    const leaving = await interlock.task('127.0.5.4');
    interlock.dns.names.set('tasks.vote.net', ['127.0.5.1', '127.0.5.2', '127.0.5.4']);
    const load = await startLoad(interlock.haproxy.port, 'vote.test');
    await until('the task is used', () => leaving.paths.length > 50);
    interlock.dns.names.set('tasks.vote.net', ['127.0.5.1', '127.0.5.2']);
    await sleep(SWARM_STOP_DELAY_MS);
    const served = leaving.paths.length;
    await leaving.close();
    const answered = load.answered();
    await until('requests have passed since', () => load.answered() > answered + 100);
    expect(leaving.paths.length).toBe(served);
    expect(await load.stop()).toEqual(ONLY_200);
  });

  test('that is wrong costs only its own service the route, and is told once', async () => {
    await interlock.deploy(service('wrong', { hosts: 'wrong.test', port: 'http', sll_only: 'true' }));
    await until('it is told', () => errors().length > 0);
    interlock.docker.announce();
    await interlock.deploy(service('right', { hosts: 'right.test', port }), ['127.0.5.5']);
    await untilRouted(interlock, 'right.test');
    await untilRouted(interlock, 'vote.test');
    expect(await interlock.status('wrong.test')).toBe(404);
    expect(errors()).toEqual([
      ['wrong', 'port must be a whole number from 1 to 65535; sll_only is not a label that is known here'],
    ]);
    expect(await metric('turnout_interlock_services', { state: 'disabled' })).toBe(1);
    await interlock.deploy(service('wrong', { hosts: 'wrong.test', port }), ['127.0.5.6']);
    await untilRouted(interlock, 'wrong.test');
    await until('it is told', () => told('service fault resolved') === 1);
  });

  test('that the proxy refuses holds up nobody else, until it is mended', async () => {
    const { folder } = interlock.haproxy;
    const good = createAuthority(folder).issue('shop.test');
    const bad = join(folder, 'bad.pem');
    await writeFile(bad, 'this is no certificate\n');
    const secrets = [
      { id: '1', name: 'good', file: good.both },
      { id: '2', name: 'bad', file: bad },
    ];
    interlock.docker.services.set('proxy', service('proxy', { proxy: 'true' }, { secrets }));
    const all = ['one', 'two', 'shop', 'three', 'four'];
    for (const [index, name] of all.entries()) {
      const tls = name === 'shop' ? { ssl_cert: 'bad' } : {};
      const spec = service(name, { hosts: `${name}.test`, port, ...tls });
      interlock.dns.names.set(`tasks.${name}.net`, [`127.0.5.2${index}`]);
      await interlock.task(`127.0.5.2${index}`);
      interlock.docker.services.set(name, spec);
    }
    interlock.docker.announce();
    for (const name of all) if (name !== 'shop') await untilRouted(interlock, `${name}.test`);
    await untilRouted(interlock, 'vote.test');
    await until('it is told', () => errors().length > 0);
    expect(errors()).toEqual([['shop', expect.stringContaining('the proxy refuses its route')]]);
    expect(await interlock.status('shop.test')).toBe(404);
    expect(await metric('turnout_interlock_services', { state: 'quarantined' })).toBe(1);

    const refused = await metric('turnout_interlock_reloads_total', { outcome: 'refused' });
    await interlock.deploy(service('five', { hosts: 'five.test', port }), ['127.0.5.30']);
    await untilRouted(interlock, 'five.test');
    expect(await metric('turnout_interlock_reloads_total', { outcome: 'refused' })).toBe(refused);

    await interlock.deploy(service('shop', { hosts: 'shop.test', port, ssl_cert: 'good' }));
    await untilRouted(interlock, 'shop.test');
    await until('it is told', () => told('service fault resolved'));
    expect(errors().length).toBe(1);
  });

  test('that the proxy refuses is tried again when another proxy has started, which may have what the first lacked', async () => {
    const { folder } = interlock.haproxy;
    const { both } = createAuthority(folder).issue('soon.test');
    // What happens when a secret and the label that names it are deployed together: the label is there first.
    const file = join(folder, 'soon.pem');
    const secrets = [{ id: '1', name: 'soon', file }];
    interlock.docker.services.set('proxy', service('proxy', { proxy: 'true' }, { secrets }));
    await interlock.deploy(service('soon', { hosts: 'soon.test', port, ssl_cert: 'soon' }), ['127.0.5.60']);
    await until('it is told', () => errors().length > 0);
    expect(await interlock.status('soon.test')).toBe(404);

    await interlock.haproxy.stop();
    await copyFile(both, file);
    await interlock.haproxy.start();
    await untilRouted(interlock, 'soon.test');
  });

  test.each(['status', 'nonsense', 'silence', 'gone'] as const)(
    'of Docker that does not answer (%s) leaves the routes as they are, is told once, and passes',
    async (failure) => {
      if (failure === 'gone') await interlock.docker.pause();
      else interlock.docker.failure = failure;
      interlock.docker.announce();
      await until('it is noticed', () => interlock.readiness.faults['docker'] !== undefined);
      await until('it is noticed again', async () => {
        const count = await metric('turnout_interlock_faults_total', { peer: 'docker' });
        return count !== undefined && count > 1;
      });
      await untilRouted(interlock, 'vote.test');
      expect(told('the routes stay as they are')).toBe(1);
      if (failure === 'gone') await interlock.docker.resume();
      interlock.docker.failure = undefined;
      await interlock.deploy(service('late', { hosts: 'late.test', port }), ['127.0.5.40']);
      await untilRouted(interlock, 'late.test');
      expect(interlock.readiness.isReady).toBe(true);
    },
  );

  test('of the name server, which falls silent, takes no task away', async () => {
    interlock.dns.isSilent = true;
    // A question and its repetitions, several times.
    await until('it is asked in vain', () => interlock.dns.unanswered >= 10);
    const load = await startLoad(interlock.haproxy.port, 'vote.test');
    await until('requests have passed', () => load.answered() > 100);
    expect(await load.stop()).toEqual(ONLY_200);
  });

  test('of the controller itself changes nothing, even if it ended in the middle of a reload', async () => {
    await interlock.restart();
    await until('it is ready', () => interlock.readiness.isReady);
    expect(await metric('turnout_interlock_reloads_total', { outcome: 'taken' })).toBe(0);
    await interlock.stopController();
    const routes = join(interlock.haproxy.folder, 'conf.d/routes.cfg');
    const good = await readFile(routes, 'utf8');
    await writeFile(routes, `${good}\nnonsense\n`);
    await interlock.restart();
    await until('the good routes are back', async () => (await readFile(routes, 'utf8')) === good);
    await interlock.haproxy.stop();
    await interlock.haproxy.start();
    await untilRouted(interlock, 'vote.test');
  });

  test('of the proxy, which comes back, finds the routes where they were, also without Docker', async () => {
    await interlock.docker.pause();
    await interlock.haproxy.stop('SIGKILL');
    await until('it is noticed', () => interlock.readiness.faults['proxy'] !== undefined);
    await interlock.haproxy.start();
    await untilRouted(interlock, 'vote.test');
    await until('it is noticed', () => interlock.readiness.faults['proxy'] === undefined);
    expect(told('proxy down')).toBe(1);
    await interlock.docker.resume();
  });

  test('of the proxy that makes it unable to start with its routes costs only those who are to blame', async () => {
    const { folder } = interlock.haproxy;
    const { both } = createAuthority(folder).issue('shop.test');
    const secrets = [{ id: '1', name: 'cert', file: both }];
    interlock.docker.services.set('proxy', service('proxy', { proxy: 'true' }, { secrets }));
    await interlock.deploy(service('shop', { hosts: 'shop.test', port, ssl_cert: 'cert' }), ['127.0.5.50']);
    await untilRouted(interlock, 'shop.test');
    await interlock.haproxy.stop();
    await rm(both);
    await expect(interlock.haproxy.start()).rejects.toThrow();
    await until('the proxy starts', () => interlock.haproxy.start().then(() => true));
    await untilRouted(interlock, 'vote.test');
    expect(await interlock.status('shop.test')).toBe(404);
    await until('it is told', () => told('the proxy refuses its route'));
  });

  test('lets an answer under way finish, however many reloads there are', async () => {
    let finish = (): void => {};
    const slow = await interlock.task('127.0.5.60');
    interlock.dns.names.set('tasks.slow.net', ['127.0.5.60']);
    await interlock.deploy(service('slow', { hosts: 'slow.test', port }));
    await untilRouted(interlock, 'slow.test');
    slow.answer = (_request, response) => {
      response.write('first');
      finish = () => response.end(' last');
    };
    const sent = request(`${interlock.url}/`, { headers: { host: 'slow.test' }, agent: false });
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
