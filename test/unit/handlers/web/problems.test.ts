import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { PROBLEMS } from '#handlers/web/problems.ts';

test('the proxy answers with documented problems: their codes, statuses and titles', () => {
  const config = readFileSync(join(ROOT, 'stack/interlock/proxy.cfg'), 'utf8').replaceAll('\\"', '"');
  const answers = [...config.matchAll(/"title":"([^"]+)","status":(\d+),"code":"(\w+)"/g)];
  const codes = answers.map(([, , , code]) => code);
  expect(codes).toEqual(expect.arrayContaining(['too_many', 'no_backend', 'bad_gateway']));
  for (const [, title, status, code = ''] of answers) {
    expect({ code, ...PROBLEMS[code as keyof typeof PROBLEMS] }).toMatchObject({
      code,
      title,
      status: Number(status),
    });
  }
});
