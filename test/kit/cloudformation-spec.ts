import { loadAwsServiceSpecSync } from '@aws-cdk/aws-service-spec';
import type { Property, PropertyType, SpecDatabase } from '@aws-cdk/service-spec-types';
import type { Resource, Template, Value } from './cloudformation.ts';

/** AWS's specification of its resource types, from the CDK's package. */
export class ResourceSpec {
  readonly #db: SpecDatabase = loadAwsServiceSpecSync();

  /** Number of resource types. */
  get size(): number {
    return this.#db.all('resource').length;
  }

  #find(type: string) {
    return this.#db.lookup('resource', 'cloudFormationType', 'equals', type)[0];
  }

  /** Returns what contradicts the specification: unknown type or property, wrong value type, missing property. */
  faultsOf({ id, type, properties }: Resource): string[] {
    const known = this.#find(type);
    if (!known) return [`${id}: there is no ${type}`];
    return this.#fields(id, properties, known.properties);
  }

  /** Returns attributes in `Fn::GetAtt` that their resources do not have. */
  unknownAttributes(template: Template): string[] {
    const asked = new Set<string>();
    collectAttributes(template.Resources as Value, asked);
    collectAttributes(template.Outputs as Value, asked);
    return [...asked].filter((name) => {
      const [id = '', ...path] = name.split('.');
      const known = this.#find(String(template.Resources[id]?.['Type']));
      return !known?.attributes[path.join('.')];
    });
  }

  #fields(where: string, fields: object, known: Readonly<Record<string, Property>>): string[] {
    const missing = Object.entries(known)
      .filter(([name, { required }]) => required && !Object.hasOwn(fields, name))
      .map(([name]) => `${where}.${name} is missing`);
    const wrong = Object.entries(fields as Record<string, Value>).flatMap(([name, value]) => {
      const property = known[name];
      if (!property) return [`${where}.${name} is unknown`];
      return this.#either(`${where}.${name}`, value, [property.type, ...(property.previousTypes ?? [])]);
    });
    return [...missing, ...wrong];
  }

  /** Checks a value that may have any of several types; returns the errors of the type with the fewest. */
  #either(where: string, value: Value, types: readonly PropertyType[]): string[] {
    const faults = types.map((type) => this.#value(where, value, type));
    return (
      faults.find((list) => list.length === 0) ?? faults.toSorted((a, b) => a.length - b.length)[0] ?? []
    );
  }

  #value(where: string, value: Value, type: PropertyType): string[] {
    const expected = (fits: boolean): string[] =>
      fits ? [] : [`${where} is not a ${type.type}: ${JSON.stringify(value)}`];
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    switch (type.type) {
      case 'string':
      case 'integer': {
        const allowed = type.allowedValues?.map(String);
        const isRight = type.type === 'integer' ? /^-?\d+$/.test(String(value)) : typeof value !== 'object';
        return expected(isRight && (!allowed || allowed.includes(String(value))));
      }
      case 'number':
        return expected(typeof value !== 'object' && Number.isFinite(Number(value)));
      case 'boolean':
        return expected(['true', 'false'].includes(String(value)));
      case 'array':
        if (!Array.isArray(value)) return expected(false);
        return value.flatMap((item, i) => this.#value(`${where}[${i}]`, item, type.element));
      case 'map':
        if (!isObject) return expected(false);
        return Object.entries(value).flatMap(([key, item]) =>
          this.#value(`${where}.${key}`, item, type.element),
        );
      case 'union':
        return this.#either(where, value, type.types);
      case 'ref':
        if (!isObject) return expected(false);
        return this.#fields(where, value, this.#db.get('typeDefinition', type.reference).properties);
      case 'tag':
        return expected(isObject && typeof value['Key'] === 'string' && typeof value['Value'] === 'string');
      case 'json':
        return expected(isObject || typeof value === 'string');
      default:
        return expected(typeof value === 'string');
    }
  }
}

function collectAttributes(value: Value, names: Set<string>): void {
  if (typeof value !== 'object' || value === null) return;
  if (Array.isArray(value)) {
    for (const item of value) collectAttributes(item, names);
    return;
  }
  const attribute = value['Fn::GetAtt'];
  if (Array.isArray(attribute)) names.add(attribute.join('.'));
  const text = [value['Fn::Sub']].flat()[0];
  if (typeof text === 'string') {
    for (const [, name = ''] of text.matchAll(/\$\{([A-Za-z0-9]+\.[A-Za-z0-9.]+)\}/g)) names.add(name);
  }
  for (const item of Object.values(value)) collectAttributes(item, names);
}
