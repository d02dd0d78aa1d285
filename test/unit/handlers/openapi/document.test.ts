import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { describeApi } from '#handlers/openapi/document.ts';
import { PROBLEMS, type ProblemCode } from '#handlers/web/problems.ts';
import { ApiDescription } from '#kit/openapi.ts';

/** Answered by the proxy, not by a handler. */
const OF_THE_PROXY: readonly ProblemCode[] = [
  'request_timeout',
  'bad_gateway',
  'no_backend',
  'gateway_timeout',
];

const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };

test('the schemas and tables give the description in handlers/openapi.json', async () => {
  const text = `${JSON.stringify(describeApi(version), null, 2)}\n`;
  await expect(text).toMatchFileSnapshot('../../../../handlers/openapi.json');
});

test('every documented problem is an answer of an operation, except those of the proxy, and has an example', () => {
  const { document } = new ApiDescription();
  const codes = Object.keys(PROBLEMS).filter((code) => !OF_THE_PROXY.some((other) => other === code));
  expect(Object.keys(document.components['examples'] ?? {}).toSorted()).toEqual(codes.toSorted());
});

/** Returns every example of an answer with the pointer of its schema. */
function examplesOf(api: ApiDescription): { schema: string; value: unknown }[] {
  const answers = Object.entries(api.document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, { responses = {} }]) =>
      Object.entries(responses).flatMap(([status, { content = {} }]) =>
        Object.entries(content).map(([type, it]) => ({ keys: [path, method, status, type], ...it })),
      ),
    ),
  );
  return answers.flatMap(({ keys, example, examples = {} }) => {
    const [path, method, status, type] = keys.map((key) => encodeURIComponent(key.replaceAll('/', '~1')));
    const schema = `/paths/${path}/${method}/responses/${status}/content/${type}/schema`;
    const named = Object.values(examples).map((one) => api.resolve<{ value: unknown }>(one).value);
    return [...(example === undefined ? [] : [example]), ...named].map((value) => ({ schema, value }));
  });
}

test('every reference names something, every example is valid, and operations have distinct ids', () => {
  const api = new ApiDescription();
  const references = JSON.stringify(api.document).matchAll(/"\$ref":"([^"]+)"/g);
  for (const [, $ref = ''] of references) expect(() => api.resolve({ $ref }), $ref).not.toThrow();
  const ids = api.operations.map(({ operationId }) => operationId);
  expect(new Set(ids).size).toBe(ids.length);

  const examples = examplesOf(api);
  expect(examples.length).toBeGreaterThan(30);
  for (const { schema, value } of examples) api.validate(schema, value);
});
