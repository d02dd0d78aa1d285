import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { BlockList } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { makeStack, parseTemplate, type Resource, type Stack, type Value } from '#kit/cloudformation.ts';
import { ResourceSpec } from '#kit/cloudformation-spec.ts';

const text = readFileSync(join(ROOT, 'aws/turnout.yaml'), 'utf8');
const template = parseTemplate(text);
const spec = new ResourceSpec();

/** All combinations of the parameters that conditions use. */
const CHOICES: Readonly<Record<string, readonly string[]>> = {
  Architecture: ['arm64', 'amd64'],
  Zones: ['2', '3'],
  ManagerCount: ['1', '3'],
  UseRds: ['true', 'false'],
  Domain: ['', 'example.com'],
  HostedZoneId: ['', 'Z0123456789'],
  AlarmEmail: ['', 'sre@example.com'],
};
const combinations = Object.entries(CHOICES).reduce<Record<string, string>[]>(
  (sets, [name, values]) => sets.flatMap((set) => values.map((value) => ({ ...set, [name]: value }))),
  [{}],
);
const stacks = combinations.map((parameters) => ({ parameters, stack: makeStack(template, parameters) }));
const usual = makeStack(template);

const ofType = ({ resources }: Stack, type: string): Resource[] =>
  resources.filter((resource) => resource.type === type);
const named = (stack: Stack, id: string): Resource => {
  const found = stack.resources.find((resource) => resource.id === id);
  if (!found) throw new Error(`there is no ${id}`);
  return found;
};
const field = (value: Value | undefined, ...path: string[]): Value | undefined =>
  path.reduce<Value | undefined>((at, key) => (at as Record<string, Value> | undefined)?.[key], value);

describe('the template', () => {
  test('evaluates for every combination of its options', () => {
    expect(stacks).toHaveLength(2 ** 7);
    for (const { parameters, stack } of stacks) {
      expect(stack.faults, JSON.stringify(parameters)).toEqual([]);
      expect(stack.resources.length).toBeGreaterThan(70);
    }
  });

  test("conforms to AWS's specification", () => {
    const faults = new Set(
      stacks.flatMap(({ stack }) => stack.resources.flatMap((one) => spec.faultsOf(one))),
    );
    expect([...faults]).toEqual([]);
    expect(spec.unknownAttributes(template)).toEqual([]);
  });

  test('uses every parameter, mapping and condition, and describes its parameters', () => {
    for (const name of Object.keys({
      ...template.Parameters,
      ...template.Mappings,
      ...template.Conditions,
    })) {
      const uses = text.match(new RegExp(`\\b${name}\\b`, 'g')) ?? [];
      expect(uses.length, name).toBeGreaterThan(1);
    }
    for (const [name, fields] of Object.entries(template.Parameters)) {
      expect(fields, name).toMatchObject({ Description: expect.any(String), Default: expect.anything() });
    }
  });

  test('fits into a request, so that it needs no bucket', () => {
    expect(Buffer.byteLength(text)).toBeLessThan(51_200);
  });
});

describe('the network', () => {
  test('opens only the two ports of the load balancer to the world', () => {
    for (const { stack } of stacks) {
      const open = stack.resources.flatMap(({ id, properties }) =>
        [properties['SecurityGroupIngress'] ?? [], properties]
          .flat()
          .filter((rule) => field(rule, 'CidrIp') ?? field(rule, 'CidrIpv6'))
          .map(
            (rule) => `${id}: ${field(rule, 'FromPort')}-${field(rule, 'ToPort')} ${field(rule, 'CidrIp')}`,
          ),
      );
      expect(open).toEqual(['LoadBalancerGroup: 80-80 0.0.0.0/0', 'LoadBalancerGroup: 443-443 0.0.0.0/0']);
    }
  });

  test('opens every other port to a single security group, and none to ssh', () => {
    for (const { stack } of stacks) {
      const rules = stack.resources.flatMap(({ id, type, properties }) => [
        ...([properties['SecurityGroupIngress'] ?? []].flat() as Value[]).map((rule) => ({ id, rule })),
        ...(type === 'AWS::EC2::SecurityGroupIngress' ? [{ id, rule: properties as Value }] : []),
      ]);
      expect(rules.length).toBeGreaterThan(8);
      for (const { id, rule } of rules) {
        expect(field(rule, 'FromPort'), id).toBe(field(rule, 'ToPort'));
        expect([80, 443, 2377, 4789, 5432, 7946]).toContain(field(rule, 'FromPort'));
        if (id !== 'LoadBalancerGroup') expect(field(rule, 'SourceSecurityGroupId')).toMatch(/^<\w+Group>$/);
      }
    }
  });

  test('places all machines in private subnets without public addresses', () => {
    for (const { stack } of stacks) {
      const subnets = [
        ...ofType(stack, 'AWS::EC2::Instance').map(({ properties }) => properties['SubnetId']),
        ...ofType(stack, 'AWS::AutoScaling::AutoScalingGroup').flatMap(
          ({ properties }) => properties['VPCZoneIdentifier'],
        ),
      ];
      for (const subnet of subnets) {
        expect(subnet).toMatch(/^<(Private|Managers)[ABC]>$/);
        const route = named(stack, `${String(subnet).slice(1, -1)}Routes`);
        expect(route.properties['RouteTableId']).toBe('<PrivateRoutes>');
      }
    }
    expect(text).not.toMatch(/MapPublicIpOnLaunch|AssociatePublicIpAddress/);
  });

  test('has disjoint subnets, with the managers’ addresses inside theirs', () => {
    const stack = makeStack(template, { Zones: '3', ManagerCount: '3' });
    const subnets = ofType(stack, 'AWS::EC2::Subnet').map(({ id, properties }) => {
      const [address = '', bits = ''] = String(properties['CidrBlock']).split('/');
      const list = new BlockList();
      list.addSubnet(address, Number(bits));
      return { id, address, list };
    });
    expect(subnets).toHaveLength(9);
    for (const { id, address } of subnets) {
      expect(subnets.filter(({ list }) => list.check(address)).map((other) => other.id)).toEqual([id]);
      expect(address).toMatch(/^10\.42\./);
    }
    for (const { stack } of stacks) {
      for (const { properties } of ofType(stack, 'AWS::EC2::Instance')) {
        const address = properties['PrivateIpAddress'];
        if (address === undefined) continue;
        const inside = subnets.filter(({ list }) => list.check(String(address))).map(({ id }) => `<${id}>`);
        expect(inside).toEqual([properties['SubnetId']]);
      }
    }
  });

  test('passes the managers’ addresses to the nodes, the first one first', () => {
    for (const { stack } of stacks) {
      const addresses = ofType(stack, 'AWS::EC2::Instance')
        .filter(({ id }) => id.startsWith('Manager'))
        .map(({ properties }) => properties['PrivateIpAddress']);
      expect(named(stack, 'Managers').properties['Value']).toBe(addresses.join(' '));
      expect(new Set(addresses).size).toBe(addresses.length);
    }
  });
});

describe('the machines', () => {
  test('withhold their credentials from containers, and have encrypted disks', () => {
    const templates = ofType(usual, 'AWS::EC2::LaunchTemplate');
    expect(templates).toHaveLength(5);
    for (const { properties } of templates) {
      expect(field(properties, 'LaunchTemplateData', 'MetadataOptions')).toEqual({
        HttpTokens: 'required',
        HttpPutResponseHopLimit: 1,
        HttpEndpoint: 'enabled',
      });
      const [disk] = field(properties, 'LaunchTemplateData', 'BlockDeviceMappings') as Value[];
      expect(field(disk, 'Ebs', 'Encrypted')).toBe(true);
    }
    expect(named(usual, 'StoreDisk').properties['Encrypted']).toBe(true);
    const rds = makeStack(template, { UseRds: 'true' });
    expect(named(rds, 'Database').properties['StorageEncrypted']).toBe(true);
  });

  test.each(['arm64', 'amd64'])('on %s have images and families of that architecture', (architecture) => {
    const [image, families] =
      architecture === 'arm64' ? ['arm64', /^(t4g|c7g|m7g)\./] : ['x86_64', /^(t3|c7i|m7i)\./];
    const stack = makeStack(template, { Architecture: architecture });
    const templates = ofType(stack, 'AWS::EC2::LaunchTemplate').map(({ id, properties }) => ({
      id,
      data: properties['LaunchTemplateData'] as Value,
    }));
    for (const { data } of templates) {
      expect(field(data, 'ImageId')).toBe(
        `resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${image}`,
      );
    }
    const types = [
      ...ofType(stack, 'AWS::EC2::Instance').map(({ properties }) => properties['InstanceType']),
      ...templates.flatMap(({ data }) => field(data, 'InstanceType') ?? []),
    ];
    // Three managers; store, proxies, frontends and workers.
    expect(types).toHaveLength(3 + 4);
    for (const type of types) expect(type).toMatch(families as RegExp);
  });

  test('of their own have a size that a stack update changes, managers one by one', () => {
    const stack = makeStack(template, { ManagerSize: 'large' });
    const instances = ofType(stack, 'AWS::EC2::Instance').map(({ id, properties, dependsOn }) => [
      id,
      properties['InstanceType'],
      dependsOn,
    ]);
    expect(instances).toEqual([
      ['Manager1', 't4g.large', ['PrivateDefaultRoute']],
      ['Manager2', 't4g.large', ['Manager1']],
      ['Manager3', 't4g.large', ['Manager2']],
    ]);
    expect(field(named(stack, 'ManagerTemplate').properties, 'LaunchTemplateData')).not.toHaveProperty(
      'InstanceType',
    );
  });

  test('of the store is replaced when it fails, ends before the next one starts, and outlived by the disk', () => {
    expect(named(usual, 'Stores').properties).toMatchObject({
      MinSize: '1',
      MaxSize: '1',
      InstanceMaintenancePolicy: { MinHealthyPercentage: 0, MaxHealthyPercentage: 100 },
      // The zone of the disk.
      VPCZoneIdentifier: ['<PrivateA>'],
    });
    expect(named(usual, 'StoreDisk').properties['AvailabilityZone']).toMatch('PrivateA');
    expect(ofType(usual, 'AWS::EC2::VolumeAttachment')).toEqual([]);
    // CloudFormation deletes the group, which references the disk through its template, before the disk.
    expect(JSON.stringify(template.Resources['StoreTemplate'])).toContain('StoreDisk');
  });

  test('of the store may start with a snapshot', () => {
    expect(named(usual, 'StoreDisk').properties).not.toHaveProperty('SnapshotId');
    const restored = makeStack(template, { StoreSnapshot: 'snap-0a1' });
    expect(named(restored, 'StoreDisk').properties['SnapshotId']).toBe('snap-0a1');
    expect(restored.faults).toEqual([]);
  });

  test('with data are never replaced by a stack update', () => {
    for (const { properties } of ofType(usual, 'AWS::EC2::Instance')) {
      expect(field(properties, 'LaunchTemplate', 'Version')).toBe('1');
      expect(properties).not.toHaveProperty('ImageId');
    }
    for (const id of ['StoreDisk', 'Database']) {
      expect(template.Resources[id]).toMatchObject({
        DeletionPolicy: 'Snapshot',
        UpdateReplacePolicy: 'Snapshot',
      });
    }
  });

  test('of a frontend are drained before they terminate', () => {
    expect(named(usual, 'Drain').properties).toMatchObject({
      AutoScalingGroupName: '<Frontends>',
      LifecycleHookName: 'drain',
      LifecycleTransition: 'autoscaling:EC2_INSTANCE_TERMINATING',
    });
  });

  test('of a frontend are in service once they accept votes, or are replaced', () => {
    expect(named(usual, 'Ready').properties).toMatchObject({
      AutoScalingGroupName: '<Frontends>',
      LifecycleTransition: 'autoscaling:EC2_INSTANCE_LAUNCHING',
      DefaultResult: 'ABANDON',
    });
  });

  test.each(ofType(usual, 'AWS::EC2::LaunchTemplate').map(({ id }) => id))(
    '%s has a valid boot script without secrets',
    (id) => {
      const data = field(named(usual, id).properties, 'LaunchTemplateData', 'UserData');
      const script = Buffer.from(String(data), 'base64').toString();
      expect(script).toMatch(/^#!\/bin\/bash\n/);
      expect(script).toMatch(`ROLE=${id.replace('Template', '').toLowerCase()}\n`);
      expect(script).not.toMatch(/token|password|secret/i);
      const parsed = spawnSync('bash', ['-n'], { input: script, encoding: 'utf8' });
      expect(parsed).toMatchObject({ status: 0, stderr: '' });
      const checked = spawnSync('shellcheck', ['--shell=bash', '-'], { input: script, encoding: 'utf8' });
      expect(checked).toMatchObject({ status: 0, stdout: '' });
    },
  );

  test('share the boot script except for settings of their role', () => {
    const scripts = ofType(usual, 'AWS::EC2::LaunchTemplate').map(({ properties }) =>
      Buffer.from(String(field(properties, 'LaunchTemplateData', 'UserData')), 'base64')
        .toString()
        .replace(/^(ROLE|DATA_VOLUME|FRONTEND_DISK_GIB)=.*\n/gm, ''),
    );
    expect(new Set(scripts).size).toBe(1);
  });
});

describe('the rights', () => {
  /** All policy statements of a role, including managed policies of this template. */
  function statementsOf(stack: Stack, role: string): Record<string, Value>[] {
    const { properties } = named(stack, role);
    const policies = [
      ...([properties['Policies'] ?? []].flat() as Value[]).map((policy) => field(policy, 'PolicyDocument')),
      ...([properties['ManagedPolicyArns'] ?? []].flat() as Value[])
        .filter((arn) => String(arn).startsWith('<'))
        .map((arn) => named(stack, String(arn).slice(1, -1)).properties['PolicyDocument']),
    ];
    return policies.flatMap((policy) => field(policy, 'Statement') as Record<string, Value>[]);
  }
  const ROLES = ['MemberRole', 'FrontendRole', 'StoreRole', 'ManagerRole'];
  const may = (role: string, action: string, resource: RegExp): boolean =>
    statementsOf(makeStack(template, { UseRds: 'true' }), role).some(
      (statement) =>
        [statement['Action']].flat().includes(action) &&
        [statement['Resource']].flat().some((one) => one === '*' || resource.test(String(one))),
    );

  test('permit only managers to read manager token and passwords, and to write parameters', () => {
    for (const secret of [/manager-token$/, /credentials$/]) {
      expect(ROLES.filter((role) => may(role, 'ssm:GetParameter', secret))).toEqual(['ManagerRole']);
    }
    expect(ROLES.filter((role) => may(role, 'ssm:GetParameter', /worker-token$/))).toEqual(ROLES);
    expect(ROLES.filter((role) => may(role, 'ssm:PutParameter', /./))).toEqual(['ManagerRole']);
    expect(ROLES.filter((role) => may(role, 'secretsmanager:GetSecretValue', /./))).toEqual(['ManagerRole']);
    expect(ROLES.filter((role) => may(role, 'ecr:PutImage', /./))).toEqual(['ManagerRole']);
  });

  test('name every action, and every resource where AWS supports that', () => {
    /** Actions without resource-level permissions, or restricted by a condition. */
    const EVERYWHERE =
      /^(ssmmessages|ec2messages):|^ssm:UpdateInstanceInformation$|^ecr:GetAuthorizationToken$|:Describe|^cloudwatch:PutMetricData$/;
    for (const role of ROLES) {
      for (const { Action, Resource, Effect } of statementsOf(
        makeStack(template, { UseRds: 'true' }),
        role,
      )) {
        expect(Effect).toBe('Allow');
        for (const action of [Action].flat().map(String)) {
          expect(action).not.toContain('*');
          if ([Resource].flat().includes('*')) expect(action).toMatch(EVERYWHERE);
        }
      }
    }
  });

  test('use no AWS policy that reads all parameters', () => {
    const arns = stacks.flatMap(({ stack }) =>
      ofType(stack, 'AWS::IAM::Role').flatMap(({ properties }) => properties['ManagedPolicyArns'] ?? []),
    );
    expect(new Set(arns)).toEqual(
      new Set(['<NodePolicy>', 'arn:aws:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRole']),
    );
  });
});

describe('the alarms', () => {
  test('use the metrics of aws/measure.jq', () => {
    const measured = [...readFileSync(join(ROOT, 'aws/measure.jq'), 'utf8').matchAll(/\["(\w+)", "/g)].map(
      ([, name]) => name,
    );
    const watched = ofType(usual, 'AWS::CloudWatch::Alarm')
      .filter(({ properties }) => properties['Namespace'] === 'Turnout')
      .map(({ properties }) => properties['MetricName']);
    expect(watched.toSorted()).toEqual(['Failed', 'Lost', 'QueueAge']);
    expect(measured).toEqual(expect.arrayContaining(watched));
  });

  test('notify the recipient, and treat missing data as breaching', () => {
    const alarms = ofType(usual, 'AWS::CloudWatch::Alarm');
    for (const { properties } of alarms) {
      expect(properties['AlarmActions']).toContain('<Alarms>');
    }
    expect(named(usual, 'LostAlarm').properties['TreatMissingData']).toBe('breaching');
    const told = makeStack(template, { AlarmEmail: 'sre@example.com' });
    expect(named(told, 'Alarms').properties['Subscription']).toEqual([
      { Protocol: 'email', Endpoint: 'sre@example.com' },
    ]);
  });
});
