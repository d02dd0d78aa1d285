import type { Resource, Stack, Value } from './cloudformation.ts';

/**
 * Evaluates the security groups of a stack: who can open a connection to whom. A connection needs an egress rule of one side
 * and an ingress rule of the other, except at the world's end.
 */
type Fields = Readonly<Record<string, Value>>;

interface Rule {
  /** `tcp`, `udp`, or `-1` for everything. */
  readonly protocol: string;
  readonly from: number;
  readonly to: number;
  /** A group as `<LogicalId>`, or a range of addresses. */
  readonly peer: string;
}

interface Place {
  readonly name: string;
  readonly groups: readonly string[];
}

export const WORLD = 'world';
export const BALANCER = 'balancer';
const PORT_MAX = 65_535;
/** Ports that no rule should open; they reveal rules for all ports. */
const PROBES = [0, 22, PORT_MAX];

/** One permitted connection, in the form in which `allowedFlows` returns it. */
export const flow = (from: string, to: string, protocol: string, port: number): string =>
  `${from} → ${to}: ${protocol} ${port}`;

/** Names of the machines of a stack: roles of launch templates, the balancer, and `database` where there is one. */
export const placesOf = (stack: Stack): string[] => findPlaces(stack).map(({ name }) => name);

/**
 * Returns all connections that the security groups of a stack permit, at every port that some rule starts or ends with.
 *
 * @throws when a rule names a range of addresses inside the VPC, which this model does not split
 */
export function allowedFlows(stack: Stack): Set<string> {
  const places = findPlaces(stack);
  const network = String(
    stack.resources.find(({ type }) => type === 'AWS::EC2::VPC')?.properties['CidrBlock'],
  );
  const rules = {
    ingress: new Map(places.map((place) => [place.name, place.groups.flatMap((id) => ingressOf(stack, id))])),
    egress: new Map(places.map((place) => [place.name, place.groups.flatMap((id) => egressOf(stack, id))])),
  };
  const all = [...rules.ingress.values(), ...rules.egress.values()].flat();
  const ports = new Set([...PROBES, ...all.flatMap(({ from, to }) => [from, to])]);
  const world: Place = { name: WORLD, groups: [] };
  const permits = (list: readonly Rule[] | undefined, peer: Place, protocol: string, port: number): boolean =>
    list === undefined ||
    list.some(
      (rule) =>
        ['-1', protocol].includes(rule.protocol) &&
        rule.from <= port &&
        port <= rule.to &&
        includes(rule.peer, peer, network),
    );

  const flows = new Set<string>();
  for (const from of [world, ...places]) {
    for (const to of [world, ...places]) {
      // What the world may reach, the machines inside may reach too; nothing depends on it.
      if (to === world ? from === world : to.name === BALANCER && from !== world) continue;
      for (const protocol of ['tcp', 'udp']) {
        for (const port of ports) {
          if (
            permits(rules.egress.get(from.name), to, protocol, port) &&
            permits(rules.ingress.get(to.name), from, protocol, port)
          ) {
            flows.add(flow(from.name, to.name, protocol, port));
          }
        }
      }
    }
  }
  return flows;
}

function includes(peer: string, { name, groups }: Place, network: string): boolean {
  if (peer.startsWith('<')) return groups.includes(peer);
  if (peer === '0.0.0.0/0') return true;
  if (peer === network) return name !== WORLD;
  if (peer === '127.0.0.1/32') return false;
  const vpc = network.split('.').slice(0, 2).join('.');
  if (peer.startsWith(`${vpc}.`)) throw new Error(`${peer} is a part of the VPC`);
  return name === WORLD;
}

function findPlaces({ resources }: Stack): Place[] {
  return resources.flatMap(({ id, type, properties }) => {
    if (type === 'AWS::EC2::LaunchTemplate') {
      const data = properties['LaunchTemplateData'] as Fields;
      return [
        { name: id.replace('Template', '').toLowerCase(), groups: data['SecurityGroupIds'] as string[] },
      ];
    }
    if (type === 'AWS::ElasticLoadBalancingV2::LoadBalancer')
      return [{ name: BALANCER, groups: properties['SecurityGroups'] as string[] }];
    if (type === 'AWS::RDS::DBInstance')
      return [{ name: 'database', groups: properties['VPCSecurityGroups'] as string[] }];
    return [];
  });
}

const ingressOf = (stack: Stack, group: string): Rule[] => [
  ...inlineRules(stack, group, 'SecurityGroupIngress'),
  ...separateRules(stack, group, 'AWS::EC2::SecurityGroupIngress'),
];

/** A group without an egress rule gets one from AWS that permits everything. */
function egressOf(stack: Stack, group: string): Rule[] {
  const rules = [
    ...inlineRules(stack, group, 'SecurityGroupEgress'),
    ...separateRules(stack, group, 'AWS::EC2::SecurityGroupEgress'),
  ];
  return rules.length > 0 ? rules : [{ protocol: '-1', from: 0, to: PORT_MAX, peer: '0.0.0.0/0' }];
}

function inlineRules({ resources }: Stack, group: string, property: string): Rule[] {
  const found = resources.find(({ id }) => `<${id}>` === group);
  if (!found) throw new Error(`there is no group ${group}`);
  return ([found.properties[property] ?? []].flat() as Fields[]).map(ruleOf);
}

const separateRules = ({ resources }: Stack, group: string, kind: string): Rule[] =>
  resources
    .filter(({ type, properties }: Resource) => type === kind && properties['GroupId'] === group)
    .map(({ properties }) => ruleOf(properties));

function ruleOf(fields: Fields): Rule {
  const protocol = String(fields['IpProtocol']);
  const peer =
    fields['SourceSecurityGroupId'] ??
    fields['DestinationSecurityGroupId'] ??
    fields['CidrIp'] ??
    fields['CidrIpv6'];
  return {
    protocol,
    from: protocol === '-1' ? 0 : Number(fields['FromPort']),
    to: protocol === '-1' ? PORT_MAX : Number(fields['ToPort']),
    peer: String(peer),
  };
}
