import { isAlias, isMap, isScalar, isSeq, type Node, parseDocument } from 'yaml';

/** Values of a template, with every function in its long form: `{ 'Fn::Sub': … }`, `{ Ref: … }`, `{ Condition: … }`. */
export type Value = string | number | boolean | null | Value[] | { [key: string]: Value };
type Fields = { [key: string]: Value };

export interface Template {
  readonly Parameters: Readonly<Record<string, Fields>>;
  readonly Mappings: Readonly<Record<string, Record<string, Fields>>>;
  readonly Conditions: Readonly<Record<string, Value>>;
  readonly Resources: Readonly<Record<string, Fields>>;
  readonly Outputs: Readonly<Record<string, Fields>>;
}

/** A resource for given parameters, with all functions resolved. Physical names are `<LogicalId>`. */
export interface Resource {
  readonly id: string;
  readonly type: string;
  readonly properties: Fields;
  readonly dependsOn: readonly string[];
  readonly deletionPolicy: string | undefined;
}

export interface Stack {
  readonly resources: readonly Resource[];
  readonly outputs: Readonly<Record<string, Value>>;
  /** Errors that CloudFormation would report, one line each. */
  readonly faults: readonly string[];
}

/** Pseudo parameters of a stack. */
const PSEUDO: Readonly<Record<string, string>> = {
  'AWS::AccountId': '123456789012',
  'AWS::Partition': 'aws',
  'AWS::Region': 'us-east-1',
  'AWS::StackName': 'turnout',
  'AWS::URLSuffix': 'amazonaws.com',
};
const ZONES = ['us-east-1a', 'us-east-1b', 'us-east-1c'];
const NO_VALUE = Symbol('AWS::NoValue');
type Resolved = Value | typeof NO_VALUE;

/**
 * Parses a template: YAML 1.1 with CloudFormation's tags. Aliases are errors, because CloudFormation does not support them.
 *
 * @throws on invalid YAML
 */
export function parseTemplate(text: string): Template {
  const document = parseDocument(text, { version: '1.1', merge: false, logLevel: 'error' });
  if (document.errors[0]) throw document.errors[0];
  const sections = toValue(document.contents) as unknown as Partial<Template>;
  const empty = { Parameters: {}, Mappings: {}, Conditions: {}, Resources: {}, Outputs: {} };
  return { ...empty, ...sections };
}

function toValue(node: unknown): Value {
  if (isAlias(node) || (node as Node | null)?.['anchor' as keyof Node]) {
    throw new Error('CloudFormation does not support YAML aliases');
  }
  const value = plainValue(node);
  const tag = (node as Node | null)?.tag;
  if (!tag?.startsWith('!')) return value;
  const name = tag.slice(1);
  if (name === 'Ref' || name === 'Condition') return { [name]: value };
  if (name === 'GetAtt' && typeof value === 'string') {
    const dot = value.indexOf('.');
    return { 'Fn::GetAtt': [value.slice(0, dot), value.slice(dot + 1)] };
  }
  return { [`Fn::${name}`]: value };
}

function plainValue(node: unknown): Value {
  if (isSeq(node)) return node.items.map(toValue);
  if (isMap(node)) {
    return Object.fromEntries(
      node.items.map(({ key, value }) => [String(isScalar(key) ? key.value : key), toValue(value)]),
    );
  }
  return isScalar(node) ? (node.value as Value) : null;
}

/**
 * Evaluates a template for these parameters; missing ones take their defaults. Reports what CloudFormation validates before it
 * creates anything: references to unknown or conditional resources, disallowed parameter values, cycles, unknown functions.
 */
export function makeStack(template: Template, parameters: Readonly<Record<string, string>> = {}): Stack {
  return new Evaluation(template, parameters).run();
}

class Evaluation {
  readonly #template: Template;
  readonly #parameters: Map<string, Value>;
  readonly #faults: string[] = [];
  /** Resources that the current resource references. */
  #references = new Set<string>();
  #where = '';

  constructor(template: Template, parameters: Readonly<Record<string, string>>) {
    this.#template = template;
    this.#parameters = this.#readParameters(parameters);
  }

  run(): Stack {
    const { Resources, Outputs } = this.#template;
    const resources: Resource[] = [];
    const edges = new Map<string, ReadonlySet<string>>();
    for (const [id, fields] of Object.entries(Resources)) {
      if (!this.#isMade(id)) continue;
      this.#where = id;
      this.#references = new Set();
      const properties = this.#resolve(fields['Properties'] ?? {});
      const dependsOn = [fields['DependsOn'] ?? []].flat().map(String);
      for (const other of dependsOn) {
        if (!Resources[other]) this.#fault(`depends on ${other}, which is not there`);
        this.#references.add(other);
      }
      edges.set(id, this.#references);
      resources.push({
        id,
        type: String(fields['Type']),
        properties: properties as Fields,
        dependsOn,
        deletionPolicy: fields['DeletionPolicy'] as string | undefined,
      });
    }
    const outputs: Record<string, Value> = {};
    this.#references = new Set();
    for (const [name, fields] of Object.entries(Outputs)) {
      this.#where = `output ${name}`;
      if (this.#holds(fields['Condition'])) outputs[name] = this.#resolve(fields['Value'] ?? '') as Value;
    }
    this.#faults.push(...findCircles(edges));
    return { resources, outputs, faults: this.#faults };
  }

  #fault(what: string): string {
    this.#faults.push(`${this.#where}: ${what}`);
    return '';
  }

  #readParameters(given: Readonly<Record<string, string>>): Map<string, Value> {
    this.#where = 'parameters';
    for (const name of Object.keys(given)) {
      if (!this.#template.Parameters[name]) this.#fault(`there is no ${name}`);
    }
    return new Map(
      Object.entries(this.#template.Parameters).map(([name, fields]) => {
        const value = given[name] ?? fields['Default'];
        if (value === undefined) this.#fault(`${name} has no value`);
        const allowed = fields['AllowedValues'] as Value[] | undefined;
        if (allowed && !allowed.map(String).includes(String(value)))
          this.#fault(`${name} may not be ${value}`);
        const pattern = fields['AllowedPattern'];
        if (pattern && !new RegExp(String(pattern)).test(String(value)))
          this.#fault(`${name} may not be ${value}`);
        return [name, String(value)];
      }),
    );
  }

  #isMade(id: string): boolean {
    return this.#holds(this.#template.Resources[id]?.['Condition']);
  }

  #holds(condition: Value | undefined): boolean {
    if (condition === undefined) return true;
    const rule = this.#template.Conditions[String(condition)];
    if (rule === undefined) this.#fault(`there is no condition ${condition}`);
    return rule !== undefined && this.#resolve(rule) === true;
  }

  #resolve(value: Value): Resolved {
    if (Array.isArray(value))
      return value.map((item) => this.#resolve(item)).filter((item) => item !== NO_VALUE);
    if (typeof value !== 'object' || value === null) return value;
    const [[name, argument] = ['', null], ...others] = Object.entries(value);
    if (others.length === 0 && (name === 'Ref' || name.startsWith('Fn::'))) return this.#call(name, argument);
    // `Condition` also names a property of policy statements, whose value is an object.
    if (others.length === 0 && name === 'Condition' && typeof argument === 'string')
      return this.#holds(argument);
    const fields = Object.entries(value).map(([key, item]) => [key, this.#resolve(item)] as const);
    return Object.fromEntries(fields.filter(([, item]) => item !== NO_VALUE)) as Fields;
  }

  #call(name: string, argument: Value): Resolved {
    if (name === 'Fn::If') {
      const [condition, then, otherwise] = argument as Value[];
      return this.#resolve((this.#holds(condition) ? then : otherwise) ?? '');
    }
    if (name === 'Fn::Sub') return this.#substitute(argument);
    const resolved = this.#resolve(argument) as Value;
    const list = (Array.isArray(resolved) ? resolved : [resolved]) as string[];
    switch (name) {
      case 'Ref':
        return this.#ref(String(resolved));
      case 'Fn::GetAtt':
        return this.#attribute(list[0] ?? '', list[1] ?? '');
      case 'Fn::Base64':
        return Buffer.from(String(resolved)).toString('base64');
      case 'Fn::GetAZs':
        return ZONES;
      case 'Fn::Join':
        return (resolved as [string, string[]])[1].join(list[0]);
      case 'Fn::Select':
        return (
          (resolved as [number, Value[]])[1][Number(list[0])] ?? this.#fault(`there is no item ${list[0]}`)
        );
      case 'Fn::FindInMap': {
        const [map = '', first = '', second = ''] = list;
        return (
          this.#template.Mappings[map]?.[first]?.[second] ?? this.#fault(`no mapping has ${list.join('.')}`)
        );
      }
      case 'Fn::Equals':
        return String(list[0]) === String(list[1]);
      case 'Fn::Not':
        return !list[0];
      case 'Fn::And':
        return list.every(Boolean);
      case 'Fn::Or':
        return list.some(Boolean);
      default:
        return this.#fault(`there is no function ${name}`);
    }
  }

  #ref(name: string): Resolved {
    if (name === 'AWS::NoValue') return NO_VALUE;
    const known = PSEUDO[name] ?? this.#parameters.get(name);
    return known ?? this.#resource(name, name);
  }

  #attribute(id: string, attribute: string): string {
    return this.#resource(id, `${id}.${attribute}`);
  }

  #resource(id: string, name: string): string {
    if (!this.#template.Resources[id]) return this.#fault(`refers to ${id}, which is not there`);
    if (!this.#isMade(id)) return this.#fault(`refers to ${id}, which these parameters do not make`);
    this.#references.add(id);
    return `<${name}>`;
  }

  #substitute(argument: Value): string {
    const [text, own = {}] = Array.isArray(argument) ? argument : [argument];
    return String(text).replaceAll(/\$\{(!?)([^}]+)\}/g, (_, literal: string, name: string) => {
      if (literal) return `\${${name}}`;
      const mine = (own as Fields)[name];
      if (mine !== undefined) return String(this.#resolve(mine));
      const dot = name.indexOf('.');
      return String(dot < 0 ? this.#ref(name) : this.#attribute(name.slice(0, dot), name.slice(dot + 1)));
    });
  }
}

function findCircles(edges: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const done = new Set<string>();
  const faults: string[] = [];
  const visit = (id: string, path: readonly string[]): void => {
    if (path.includes(id)) faults.push(`${[...path.slice(path.indexOf(id)), id].join(' → ')} is a circle`);
    if (path.includes(id) || done.has(id)) return;
    for (const next of edges.get(id) ?? []) visit(next, [...path, id]);
    done.add(id);
  };
  for (const id of edges.keys()) visit(id, []);
  return faults;
}
