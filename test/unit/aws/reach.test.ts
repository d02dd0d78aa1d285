import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '#dev/root.ts';
import { makeStack, parseTemplate, type Stack, type Template, type Value } from '#kit/cloudformation.ts';
import { allowedFlows, BALANCER, flow, placesOf, WORLD } from '#kit/security-groups.ts';

/**
 * Who must reach whom, derived from the stack file and the scripts, against what the security groups permit. Both directions: a
 * missing rule breaks the system, a further one opens it.
 */
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const template = parseTemplate(read('aws/turnout.yaml'));

interface Service {
  readonly ports?: readonly { readonly published: number }[];
  readonly networks: readonly string[];
  readonly deploy: { readonly placement: { readonly constraints: readonly string[] } };
}
const services = Object.entries(
  (parse(read('stack/turnout.yml'), { merge: true }) as { services: Record<string, Service> }).services,
).map(([name, { ports = [], networks, deploy }]) => ({
  name,
  ports: ports.map(({ published }) => published),
  networks,
  role:
    /node\.labels\.\S+ == (?:\$\{\w+:-)?(\w+)/.exec(deploy.placement.constraints.join(' '))?.[1] ?? 'manager',
}));

/** Statistics: operators reach them on AWS through Session Manager, which needs no rule. */
const OPERATORS_PORT = 8404;
/** Gossip and overlay networks of Swarm: https://docs.docker.com/engine/swarm/swarm-tutorial/#open-protocols-and-ports-between-the-hosts */
const SWARM_FLOWS = [
  ['tcp', 7946],
  ['udp', 7946],
  ['udp', 4789],
] as const;

const portIn = (path: string, pattern: RegExp): number => {
  const port = Number(pattern.exec(read(path))?.[1]);
  if (!port) throw new Error(`${path} has no ${pattern}`);
  return port;
};

/** Ports at which scripts on a manager call the proxy: `request` of lib.sh sends to a site, over TLS if it redirects there. */
function calledPorts(): number[] {
  const callers = globSync(['stack/swarm/*.sh', 'aws/*.sh'], { cwd: ROOT }).filter(
    (path) => path !== 'stack/swarm/lib.sh' && /^\s*url=\$.*proxy_url/m.test(read(path)),
  );
  expect(callers.toSorted()).toEqual([
    'aws/measure.sh',
    'stack/swarm/polls.sh',
    'stack/swarm/retire.sh',
    'stack/swarm/scale.sh',
    'stack/swarm/verify.sh',
  ]);
  expect(read('stack/swarm/lib.sh')).toContain("printf 'http://%s'");
  return [80, portIn('stack/swarm/lib.sh', /--connect-to "\$host:(\d+):/)];
}

function requiredFlows(stack: Stack): Set<string> {
  const nodes = placesOf(stack).filter((name) => ![BALANCER, 'database'].includes(name));
  const flows = new Set<string>();
  for (const { role, ports } of services) {
    for (const port of ports.filter((port) => port !== OPERATORS_PORT)) {
      flows.add(flow(WORLD, BALANCER, 'tcp', port));
      flows.add(flow(BALANCER, role, 'tcp', port));
    }
  }
  for (const port of calledPorts()) flows.add(flow('manager', 'interlock', 'tcp', port));
  for (const from of nodes) {
    // Registries, packages and all services of AWS.
    flows.add(flow(from, WORLD, 'tcp', 443));
    flows.add(flow(from, 'manager', 'tcp', portIn('stack/swarm/join.sh', /manager=\$manager:(\d+)/)));
    for (const to of nodes)
      for (const [protocol, port] of SWARM_FLOWS) flows.add(flow(from, to, protocol, port));
  }
  if (placesOf(stack).includes('database')) {
    const port = portIn('aws/release.sh', /\$DATABASE_HOST:(\d+)/);
    const clients = services.filter(
      ({ name, networks }) => networks.includes('store') && name !== 'postgres',
    );
    // release.sh creates the roles.
    for (const role of ['manager', ...clients.map((client) => client.role)])
      flows.add(flow(role, 'database', 'tcp', port));
  }
  return flows;
}

/** Returns what is missing and what is too much, one line each. */
function differences(changed: Template, parameters: Readonly<Record<string, string>>): string[] {
  const stack = makeStack(changed, parameters);
  const [allowed, required] = [allowedFlows(stack), requiredFlows(stack)];
  return [
    ...[...required.difference(allowed)].map((line) => `lacks ${line}`),
    ...[...allowed.difference(required)].map((line) => `exceeds by ${line}`),
  ].toSorted();
}

/** Returns a copy of the template in which one resource differs. */
const altered = (id: string, alter: (properties: Record<string, Value>) => void): Template => {
  const copy = structuredClone(template);
  alter(copy.Resources[id]?.['Properties'] as Record<string, Value>);
  return copy;
};

const RDS = { UseRds: 'true' };

describe('the security groups', () => {
  test.each([{}, RDS, { ManagerCount: '1', Zones: '2' }, { AllowFrom: '203.0.113.7/32' }])(
    'permit exactly the connections that the system needs: %j',
    (parameters) => {
      expect(differences(template, parameters)).toEqual([]);
    },
  );

  test('serve every listener of the load balancer, and its health checks, on a published port', () => {
    const { resources } = makeStack(template);
    const published = services.flatMap(({ ports }) => ports);
    const used = resources
      .filter(({ type }) => /TargetGroup$|Listener$/.test(type))
      .flatMap(({ properties }) =>
        [properties['Port'], properties['HealthCheckPort'] ?? []].flat().map(Number),
      );
    expect(new Set(used)).toEqual(new Set(published.filter((port) => port !== OPERATORS_PORT)));
  });

  test('the ports of Swarm are the defaults', () => {
    expect(read('stack/swarm/init.sh')).not.toMatch(/--data-path-port|--listen-addr/);
  });
});

describe('the model of the security groups', () => {
  const groups = Object.entries(template.Resources).filter(
    ([, { Type }]) => Type === 'AWS::EC2::SecurityGroup',
  );
  const inline = groups.flatMap(([id, { Properties }]) =>
    ['SecurityGroupIngress', 'SecurityGroupEgress'].flatMap((list) =>
      (((Properties as Record<string, Value>)[list] ?? []) as Value[]).map((_, index) => ({
        id,
        list,
        index,
      })),
    ),
  );

  test.each(inline)('notices that rule $index of $list of $id is missing', ({ id, list, index }) => {
    const changed = altered(id, (properties) => (properties[list] as Value[]).splice(index, 1));
    expect(differences(changed, RDS)).not.toEqual([]);
  });

  test.each(
    Object.entries(template.Resources)
      .filter(([, { Type }]) => Type === 'AWS::EC2::SecurityGroupIngress')
      .map(([id]) => id),
  )('notices that %s opens another port', (id) => {
    const changed = altered(id, (properties) => Object.assign(properties, { FromPort: 8404, ToPort: 8404 }));
    const lines = differences(changed, RDS);
    expect(lines.some((line) => line.startsWith('lacks'))).toBe(true);
    expect(lines.some((line) => line.startsWith('exceeds'))).toBe(true);
  });

  test.each([
    ['InterlockGroup', { IpProtocol: 'tcp', FromPort: 8404, ToPort: 8404, CidrIp: '10.42.0.0/16' }],
    ['ManagerGroup', { IpProtocol: 'tcp', FromPort: 22, ToPort: 22, CidrIp: '0.0.0.0/0' }],
    ['StoreGroup', { IpProtocol: '-1', SourceSecurityGroupId: { Ref: 'WorkerGroup' } }],
  ])('notices that %s has a rule too many', (id, rule) => {
    const changed = altered(id, (properties) => {
      properties['SecurityGroupIngress'] = [...((properties['SecurityGroupIngress'] ?? []) as Value[]), rule];
    });
    const lines = differences(changed, RDS);
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.filter((line) => line.startsWith('lacks'))).toEqual([]);
  });
});
