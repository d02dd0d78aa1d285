import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { ROOT } from '#dev/root.ts';

/** The parts of an OpenAPI document that the tests read. */
interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

interface Operation {
  readonly operationId?: string;
  readonly responses: Readonly<Record<string, Answer>>;
}

interface Answer {
  readonly headers?: Readonly<Record<string, Header | Reference>>;
  readonly content?: Readonly<Record<string, Content>>;
}

interface Content {
  readonly schema: Schema;
  readonly example?: unknown;
  readonly examples?: Readonly<Record<string, Reference>>;
}

interface Header {
  readonly required: boolean;
  readonly schema: Schema;
}

interface Reference {
  readonly $ref: string;
}

type Schema = Readonly<Record<string, unknown>>;

const FILE = join(ROOT, 'handlers/openapi.json');
const ID = 'openapi.json';
/** Headers that any server sends, and those that protect browsers on every page. */
const COMMON_HEADERS = new Set([
  ...['connection', 'content-length', 'content-type', 'date', 'keep-alive', 'transfer-encoding'],
  ...['content-security-policy', 'cross-origin-opener-policy', 'referrer-policy'],
  ...['x-content-type-options', 'x-frame-options'],
]);

/** The committed API description: compares answers with it, and records what of it they covered. */
export class ApiDescription {
  readonly document: Document = JSON.parse(readFileSync(FILE, 'utf8'));
  readonly #ajv = new Ajv2020({ strict: true, allErrors: true });
  readonly #seen = new Set<string>();

  constructor() {
    addFormats.default(this.#ajv);
    this.#ajv.addVocabulary(Object.keys(this.document));
    this.#ajv.addSchema(this.document, ID);
  }

  /** Every part of the description that an answer can cover. */
  get parts(): ReadonlySet<string> {
    const parts = new Set<string>();
    for (const { operationId, responses } of this.operations) {
      for (const [status, answer] of Object.entries(responses)) {
        const where = `${operationId} ${status}`;
        parts.add(where);
        for (const name of Object.keys(answer.headers ?? {})) parts.add(`${where} ${name}`);
        for (const [type, content] of Object.entries(answer.content ?? {})) {
          parts.add(`${where} ${type}`);
          for (const code of Object.keys(content.examples ?? {})) parts.add(`${where} ${code}`);
          for (const part of partsOf(content.schema, where)) parts.add(part);
        }
      }
    }
    const { schemas = {} } = this.document.components;
    for (const [name, schema] of Object.entries(schemas)) {
      for (const part of partsOf(schema, name)) parts.add(part);
    }
    return parts;
  }

  /** The parts that no accepted answer has covered. */
  get uncovered(): string[] {
    return [...this.parts].filter((part) => !this.#seen.has(part)).toSorted();
  }

  get operations(): Operation[] {
    return Object.values(this.document.paths)
      .flatMap((path) => Object.values(path))
      .filter(({ operationId }) => operationId !== undefined);
  }

  /**
   * Compares status, headers, content type and body of an answer with the description.
   *
   * @returns the body: parsed if it is JSON, else its text
   * @throws Error that lists what differs
   */
  async accept(operationId: string, response: Response): Promise<unknown> {
    const where = `${operationId} ${response.status}`;
    const operation = this.operations.find((one) => one.operationId === operationId);
    const answer = operation?.responses[response.status];
    const text = await response.text();
    if (!answer) throw new Error(`${where} is not described: ${text}`);
    this.#seen.add(where);
    this.#acceptHeaders(where, answer, response.headers);
    if (!answer.content) {
      if (text !== '') throw new Error(`${where} has a body, but none is described: ${text}`);
      return undefined;
    }
    const [type = ''] = (response.headers.get('content-type') ?? '').split(';', 1);
    const content = answer.content[type];
    if (!content) throw new Error(`${where} is ${type}, which is not described`);
    this.#seen.add(`${where} ${type}`);
    const body: unknown = type.endsWith('json') ? JSON.parse(text) : text;
    const path = `${this.#pointerOf(operationId)}/responses/${response.status}/content/${escapePointer(type)}`;
    this.validate(`${path}/schema`, body, where);
    this.#cover(content.schema, where, body);
    if (content.examples) this.#seen.add(`${where} ${(body as { code: string }).code}`);
    return body;
  }

  /**
   * Validates a value against a schema of the document.
   *
   * @param pointer the JSON Pointer of the schema
   * @param where begins the message
   * @throws Error that lists the faults
   */
  validate(pointer: string, value: unknown, where = pointer): void {
    const validate = this.#ajv.getSchema(`${ID}#${pointer}`);
    if (!validate) throw new Error(`there is no schema at ${pointer}`);
    if (validate(value)) return;
    throw new Error(`${where}: ${this.#ajv.errorsText(validate.errors)}\n${JSON.stringify(value, null, 2)}`);
  }

  /** Returns what a reference names; anything else as it is. */
  resolve<T>(value: T | Reference): T {
    const reference = (value as Partial<Reference>).$ref;
    if (reference === undefined) return value as T;
    const [, , group = '', name = ''] = reference.split('/');
    const target = this.document.components[group]?.[name];
    if (target === undefined) throw new Error(`${reference} names nothing`);
    return target as T;
  }

  #acceptHeaders(where: string, { headers = {} }: Answer, sent: Headers): void {
    for (const [name, reference] of Object.entries(headers)) {
      const { required, schema } = this.resolve<Header>(reference);
      const value = sent.get(name);
      if (value === null && required) throw new Error(`${where} has no header ${name}`);
      if (value === null) continue;
      this.#seen.add(`${where} ${name}`);
      if (!this.#ajv.validate(schema, value)) throw new Error(`${where} has ${name}: ${value}`);
    }
    const described = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
    const others = [...sent.keys()].filter((name) => !COMMON_HEADERS.has(name) && !described.has(name));
    if (others.length > 0) throw new Error(`${where} has headers that are not described: ${others.join()}`);
  }

  /** Records the optional members and the lists with items in a value. */
  #cover(schema: Schema, where: string, value: unknown): void {
    const reference = (schema as Partial<Reference>).$ref;
    const name = reference === undefined ? where : (reference.split('/').at(-1) ?? '');
    for (const part of partsOf(this.resolve<Schema>(schema), name)) {
      if (holds(value, part.slice(name.length))) this.#seen.add(part);
    }
  }

  #pointerOf(operationId: string): string {
    for (const [path, methods] of Object.entries(this.document.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.operationId === operationId) return `/paths/${escapePointer(path)}/${method}`;
      }
    }
    throw new Error(`${operationId} is not described`);
  }
}

/** Returns the paths of optional members (`.finalAt`) and of lists of objects (`.choices[]`) below a schema. */
function partsOf(schema: unknown, path: string): string[] {
  const {
    properties = {},
    required = [],
    items,
    anyOf = [],
  } = schema as {
    readonly properties?: Readonly<Record<string, Schema>>;
    readonly required?: readonly string[];
    readonly items?: Schema;
    readonly anyOf?: readonly Schema[];
  };
  const members = Object.entries(properties).flatMap(([name, member]) => [
    ...(required.includes(name) ? [] : [`${path}.${name}`]),
    ...partsOf(member, `${path}.${name}`),
  ]);
  const isListOfObjects = items?.['type'] === 'object';
  const list = isListOfObjects ? [`${path}[]`, ...partsOf(items, `${path}[]`)] : [];
  return [...members, ...list, ...anyOf.flatMap((one) => partsOf(one, path))];
}

/** Whether a value has a part, as `partsOf` names it. */
function holds(value: unknown, part: string): boolean {
  const [, step, rest = ''] = /^(\[\]|\.[^.[]+)(.*)$/.exec(part) ?? [];
  if (step === undefined) return value !== undefined;
  if (step === '[]') return Array.isArray(value) && value.some((item) => holds(item, rest));
  const member = (value as Readonly<Record<string, unknown>> | undefined)?.[step.slice(1)];
  return holds(member, rest);
}

function escapePointer(text: string): string {
  return encodeURIComponent(text.replaceAll('~', '~0').replaceAll('/', '~1'));
}
