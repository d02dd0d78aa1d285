import { describe, expect, test } from 'vitest';
import { makeStack, parseTemplate, type Resource } from '#kit/cloudformation.ts';
import { ResourceSpec } from '#kit/cloudformation-spec.ts';

/** Tests of the checkers that the template's tests rely on: each must detect an error. */
const stackOf = (text: string, parameters = {}) => makeStack(parseTemplate(text), parameters);

describe('the evaluator', () => {
  test('resolves functions, conditions and parameters', () => {
    const { resources, outputs, faults } = stackOf(
      `
Parameters: { Size: { Type: Number, Default: 2 } }
Conditions: { Big: !Not [!Equals [!Ref Size, 2]] }
Mappings: { M: { '2': { Kind: small }, '3': { Kind: large } } }
Resources:
  A:
    Type: T
    Properties:
      Kind: !FindInMap [M, !Ref Size, Kind]
      Text: !Sub ['\${AWS::Region}/\${B.Arn}/\${X}/\${!Y}', { X: !Join ['-', [a, !Select [1, [b, c]]]] }]
      Gone: !If [Big, 1, !Ref AWS::NoValue]
      List: [1, !If [Big, 2, !Ref AWS::NoValue]]
      Data: { Fn::Base64: !Sub 'echo \${Size}' }
  B: { Type: T, Condition: Big }
  C: { Type: T }
Outputs: { Id: { Value: !Ref C }, None: { Condition: Big, Value: 1 } }
`,
      { Size: '3' },
    );
    expect(faults).toEqual([]);
    expect(resources[0]?.properties).toEqual({
      Kind: 'large',
      Text: `us-east-1/<B.Arn>/a-c/${'$'}{Y}`,
      Gone: 1,
      List: [1, 2],
      Data: Buffer.from('echo 3').toString('base64'),
    });
    expect(outputs).toEqual({ Id: '<C>', None: 1 });
  });

  test('omits conditional resources, and finds references to them', () => {
    const { resources, faults } = stackOf(`
Conditions: { Never: !Equals [a, b] }
Resources:
  A: { Type: T, Properties: { P: !Ref B, Q: !GetAtt B.Arn, R: !Sub '\${B}', S: !If [Never, 1, !Ref AWS::NoValue] } }
  B: { Type: T, Condition: Never }
`);
    expect(resources).toMatchObject([{ id: 'A', properties: { P: '' } }]);
    expect(resources[0]?.properties).not.toHaveProperty('S');
    expect(faults).toEqual(Array(3).fill('A: refers to B, which these parameters do not make'));
  });

  test.each([
    [
      'a reference to nothing',
      'A: { Type: T, Properties: { P: !Ref X } }',
      'A: refers to X, which is not there',
    ],
    ['a dependence on nothing', 'A: { Type: T, DependsOn: X }', 'A: depends on X, which is not there'],
    ['a condition that is nowhere', 'A: { Type: T, Condition: X }', 'parameters: there is no condition X'],
    [
      'a cycle',
      'A: { Type: T, DependsOn: B }\n  B: { Type: T, Properties: { P: !GetAtt A.X } }',
      'A → B → A is a circle',
    ],
    [
      'an unknown function',
      'A: { Type: T, Properties: { P: !Sum [1, 2] } }',
      'A: there is no function Fn::Sum',
    ],
    [
      'a missing mapping',
      'A: { Type: T, Properties: { P: !FindInMap [M, a, b] } }',
      'A: no mapping has M.a.b',
    ],
  ])('finds %s', (_, resources, fault) => {
    expect(stackOf(`Resources:\n  ${resources}`).faults).toEqual([fault]);
  });

  test('finds unknown, missing and disallowed parameters', () => {
    const text =
      'Parameters: { A: { Type: String }, B: { Type: String, Default: x, AllowedValues: [x, y] } }';
    expect(stackOf(text, { B: 'z', C: '1' }).faults).toEqual([
      'parameters: there is no C',
      'parameters: A has no value',
      'parameters: B may not be z',
    ]);
  });

  test('rejects YAML aliases, which CloudFormation does not support', () => {
    expect(() => parseTemplate('Resources: { A: &a { Type: T }, B: *a }')).toThrow('aliases');
  });
});

describe("AWS's specification", () => {
  const spec = new ResourceSpec();
  const faultsOf = (type: string, properties: Resource['properties']) =>
    spec.faultsOf({ id: 'X', type, properties, dependsOn: [], deletionPolicy: undefined });

  test('covers the resources of AWS', () => {
    expect(spec.size).toBeGreaterThan(1000);
  });

  test.each([
    ['an unknown type', 'AWS::EC2::Vpcc', {}, 'X: there is no AWS::EC2::Vpcc'],
    ['an unknown property', 'AWS::EC2::VPC', { Cidr: '10.0.0.0/8' }, 'X.Cidr is unknown'],
    ['what is missing', 'AWS::EC2::Subnet', { CidrBlock: '10.0.0.0/8' }, 'X.VpcId is missing'],
    [
      'a wrong type',
      'AWS::EC2::VPC',
      { EnableDnsSupport: 'sure' },
      'X.EnableDnsSupport is not a boolean: "sure"',
    ],
    [
      'a fault deep inside',
      'AWS::EC2::LaunchTemplate',
      { LaunchTemplateData: { BlockDeviceMappings: [{ Ebs: { VolumeSize: 'big' } }] } },
      'X.LaunchTemplateData.BlockDeviceMappings[0].Ebs.VolumeSize is not a integer: "big"',
    ],
  ])('finds %s', (_, type, properties, fault) => {
    expect(faultsOf(type, properties)).toEqual([fault]);
  });

  test('finds an attribute that a resource lacks', () => {
    const template = parseTemplate(`
Resources:
  A: { Type: AWS::EC2::VPC }
  B: { Type: AWS::EC2::VPC, Properties: { CidrBlock: !Sub '\${A.Nope}', InstanceTenancy: !GetAtt A.VpcId } }
`);
    expect(spec.unknownAttributes(template)).toEqual(['A.Nope']);
  });
});
