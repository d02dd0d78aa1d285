import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '#dev/root.ts';

const RUNBOOK = 'stack/RUNBOOK.md';

interface Stack {
  readonly services: Readonly<Record<string, Service>>;
  readonly configs?: Readonly<Record<string, { readonly file: string }>>;
}

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly networks: readonly string[];
  readonly configs?: readonly { readonly source: string }[];
  readonly ports?: unknown;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly logging?: { readonly options: Readonly<Record<string, string>> };
  readonly deploy: {
    readonly labels?: Readonly<Record<string, string>>;
    readonly endpoint_mode: string;
    readonly restart_policy: unknown;
    readonly resources: { readonly limits: unknown };
  };
}

interface Collector {
  readonly scrape_configs: readonly {
    readonly job_name: string;
    readonly dns_sd_configs: readonly [{ readonly names: readonly [string]; readonly port: number }];
  }[];
}

interface Rules {
  readonly groups: readonly { readonly rules: readonly Rule[] }[];
}

interface Rule {
  readonly alert?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

const read = <T>(path: string): T =>
  parse(readFileSync(join(ROOT, 'stack', path), 'utf8'), { merge: true }) as T;
const turnout = read<Stack>('turnout.yml');
const observability = read<Stack>('observability.yml');
const services = Object.entries(observability.services);

test('no service of either stack blocks on its log, or fills a disk with it', () => {
  for (const [name, { logging }] of [...Object.entries(turnout.services), ...services]) {
    expect(logging?.options, name).toMatchObject({
      mode: 'non-blocking',
      'max-buffer-size': '4m',
      'max-size': '10m',
      'max-file': '3',
    });
  }
});

test('every service is restarted, limited and locked down, has a fixed version and publishes no port', () => {
  for (const [name, { image, ports, read_only, cap_drop, deploy }] of services) {
    expect(image, name).toMatch(/:v?\d+\.\d+\.\d+$/);
    expect([ports, read_only, cap_drop], name).toEqual([undefined, true, ['ALL']]);
    expect(deploy.endpoint_mode, name).toBe('dnsrr');
    expect(deploy.restart_policy, name).toBeDefined();
    expect(deploy.resources.limits, name).toBeDefined();
  }
});

test('no service connects two networks of Turnout, and the collectors listen on loopback only', () => {
  const own = new Set(['metrics', 'notify']);
  for (const [name, { networks }] of services) {
    expect(networks.filter((network) => !own.has(network)).length, name).toBeLessThanOrEqual(1);
  }
  const collectors = services.filter(([name]) => name.startsWith('collector-'));
  expect(collectors).toHaveLength(4);
  for (const [name, { command }] of collectors) {
    expect(command, name).toContain('--web.listen-address=127.0.0.1:9090');
  }
});

test('a collector scrapes the tasks of its network, and together they scrape every process of Turnout', () => {
  const scraped = services.flatMap(([name, { networks }]) => {
    const [network] = /^collector-(.+)$/.exec(name)?.slice(1) ?? [];
    if (network === undefined) return [];
    expect(networks, name).toEqual([network, 'metrics']);
    return read<Collector>(`observability/${name}.yml`)
      .scrape_configs.filter(({ job_name }) => job_name !== 'certificate')
      .map(({ job_name, dns_sd_configs: [{ names, port }] }) => {
        expect(names).toEqual([`tasks.${job_name}`]);
        expect(turnout.services[job_name]?.networks, job_name).toContain(network);
        const admin = turnout.services[job_name]?.deploy.labels?.['com.docker.lb.health_port'];
        if (admin !== undefined) expect(String(port), job_name).toBe(admin);
        return job_name;
      });
  });
  const servers = ['docker-api', 'postgres', 'redis'];
  const processes = Object.keys(turnout.services).filter((name) => !servers.includes(name));
  expect(scraped.toSorted()).toEqual(processes.toSorted());
});

test('the configs exist, and each is used', () => {
  const used = services.flatMap(([, { configs = [] }]) => configs.map(({ source }) => source));
  expect(Object.keys(observability.configs ?? {}).toSorted()).toEqual(used.toSorted());
  for (const { file } of Object.values(observability.configs ?? {})) {
    const path = file.replace(/^\$\{\w+:-(.+)\}$/, '$1');
    expect(existsSync(join(ROOT, 'stack', path)), path).toBe(true);
  }
});

const alerts = read<Rules>('observability/rules.yml')
  .groups.flatMap(({ rules }) => rules)
  .filter(({ alert }) => alert !== undefined);

test('each alert has a severity, a summary, a reason and its own page in the runbook', () => {
  expect(alerts.length).toBeGreaterThan(0);
  for (const { alert = '', labels, annotations } of alerts) {
    expect(labels?.['severity'], alert).toMatch(/^(warning|critical)$/);
    expect(annotations?.['summary'], alert).toBeTruthy();
    expect(annotations?.['reason'], alert).toMatch(/\.$/);
    expect(annotations?.['runbook'], alert).toBe(`${RUNBOOK}#alert-${alert.toLowerCase()}`);
  }
});

test('the runbook has a page for each alert', () => {
  const text = readFileSync(join(ROOT, RUNBOOK), 'utf8');
  const missing = alerts.filter(
    ({ alert }) =>
      !new RegExp(`^#+ Alert[: -]+${alert}$|id="alert-${alert?.toLowerCase()}"`, 'im').test(text),
  );
  expect(missing.map(({ alert }) => alert)).toEqual([]);
});
