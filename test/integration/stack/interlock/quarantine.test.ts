import { copyFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createAuthority } from '#kit/certificates.ts';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { until } from '#kit/until.ts';
import { useInterlock } from './fixture.ts';
import { untilRouted } from './interlock.ts';

describe.skipIf(haproxyIsMissing)('a change', () => {
  const at = useInterlock();

  test('with a wrong label disables its own service only, and is logged once', async () => {
    await at.interlock.deploy(service('wrong', { hosts: 'wrong.test', port: 'http', sll_only: 'true' }));
    await until('it is logged', () => at.errors().length > 0);
    at.interlock.docker.announce();
    await at.interlock.deploy(service('right', { hosts: 'right.test', port: at.port }), ['127.0.5.5']);
    await untilRouted(at.interlock, 'right.test');
    await untilRouted(at.interlock, 'vote.test');
    expect(await at.interlock.status('wrong.test')).toBe(404);
    expect(at.errors()).toEqual([
      ['wrong', 'port must be a whole number from 1 to 65535; sll_only is an unknown label'],
    ]);
    expect(await at.metric('turnout_interlock_services', { state: 'disabled' })).toBe(1);
    await at.interlock.deploy(service('wrong', { hosts: 'wrong.test', port: at.port }), ['127.0.5.6']);
    await untilRouted(at.interlock, 'wrong.test');
    await until('it is logged', () => at.logged('service fault resolved') === 1);
  });

  test('that the proxy rejects delays no other service, and recovers once corrected', async () => {
    const { folder } = at.interlock.haproxy;
    const good = createAuthority(folder).issue('shop.test');
    const bad = join(folder, 'bad.pem');
    await writeFile(bad, 'this is no certificate\n');
    const secrets = [
      { id: '1', name: 'good', file: good.both },
      { id: '2', name: 'bad', file: bad },
    ];
    at.interlock.docker.services.set('proxy', service('proxy', { proxy: 'true' }, { secrets }));
    const all = ['one', 'two', 'shop', 'three', 'four'];
    for (const [index, name] of all.entries()) {
      const tls = name === 'shop' ? { ssl_cert: 'bad' } : {};
      const spec = service(name, { hosts: `${name}.test`, port: at.port, ...tls });
      at.interlock.dns.names.set(`tasks.${name}.net`, [`127.0.5.2${index}`]);
      await at.interlock.task(`127.0.5.2${index}`);
      at.interlock.docker.services.set(name, spec);
    }
    at.interlock.docker.announce();
    for (const name of all) if (name !== 'shop') await untilRouted(at.interlock, `${name}.test`);
    await untilRouted(at.interlock, 'vote.test');
    await until('it is logged', () => at.errors().length > 0);
    expect(at.errors()).toEqual([['shop', expect.stringContaining('the proxy rejects its route')]]);
    expect(await at.interlock.status('shop.test')).toBe(404);
    expect(await at.metric('turnout_interlock_services', { state: 'quarantined' })).toBe(1);

    const rejected = await at.metric('turnout_interlock_reloads_total', { outcome: 'rejected' });
    await at.interlock.deploy(service('five', { hosts: 'five.test', port: at.port }), ['127.0.5.30']);
    await untilRouted(at.interlock, 'five.test');
    expect(await at.metric('turnout_interlock_reloads_total', { outcome: 'rejected' })).toBe(rejected);

    await at.interlock.deploy(service('shop', { hosts: 'shop.test', port: at.port, ssl_cert: 'good' }));
    await untilRouted(at.interlock, 'shop.test');
    await until('it is logged', () => at.logged('service fault resolved'));
    expect(at.errors().length).toBe(1);
  });

  test('that the proxy rejects is retried after the proxy restarts', async () => {
    const { folder } = at.interlock.haproxy;
    const { both } = createAuthority(folder).issue('soon.test');
    // A secret and the label that names it are deployed together: the label takes effect first.
    const file = join(folder, 'soon.pem');
    const secrets = [{ id: '1', name: 'soon', file }];
    at.interlock.docker.services.set('proxy', service('proxy', { proxy: 'true' }, { secrets }));
    await at.interlock.deploy(service('soon', { hosts: 'soon.test', port: at.port, ssl_cert: 'soon' }), [
      '127.0.5.60',
    ]);
    await until('it is logged', () => at.errors().length > 0);
    expect(await at.interlock.status('soon.test')).toBe(404);

    await at.interlock.haproxy.stop();
    await copyFile(both, file);
    await at.interlock.haproxy.start();
    await untilRouted(at.interlock, 'soon.test');
  });

  test('that prevents the proxy from starting with its routes disables the faulty route only', async () => {
    const { folder } = at.interlock.haproxy;
    const { both } = createAuthority(folder).issue('shop.test');
    const secrets = [{ id: '1', name: 'cert', file: both }];
    at.interlock.docker.services.set('proxy', service('proxy', { proxy: 'true' }, { secrets }));
    await at.interlock.deploy(service('shop', { hosts: 'shop.test', port: at.port, ssl_cert: 'cert' }), [
      '127.0.5.50',
    ]);
    await untilRouted(at.interlock, 'shop.test');
    await at.interlock.haproxy.stop();
    await rm(both);
    await expect(at.interlock.haproxy.start()).rejects.toThrow();
    await until('the proxy starts', () => at.interlock.haproxy.start().then(() => true));
    await untilRouted(at.interlock, 'vote.test');
    expect(await at.interlock.status('shop.test')).toBe(404);
    await until('it is logged', () => at.logged('the proxy rejects its route'));
  });
});
