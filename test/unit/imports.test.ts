import { describe, expect, test } from 'vitest';
import { findViolations, type Module, readModules } from '../imports.ts';

const modules = readModules();
const withModule = (module: Partial<Module> & { path: string }) =>
  findViolations([...modules, { imports: [], text: '', ...module }]);

describe('the import rules', () => {
  test('hold, and each of them has files to hold for', () => {
    expect(modules.length).toBeGreaterThan(50);
    expect(modules.filter(({ imports }) => imports.length > 0).length).toBeGreaterThan(40);
    expect(findViolations(modules)).toEqual([]);
  });

  test('find a handler that reaches for the database', () => {
    expect(withModule({ path: 'handlers/vote/x.ts', imports: ['db/client.ts'] })).toEqual([
      'handlers/vote/x.ts: must not import db/client.ts',
    ]);
  });

  test('find a file that they do not know, and an import that leads nowhere', () => {
    expect(withModule({ path: 'stack/x.ts' })).toEqual(['stack/x.ts: no rule says what it may import']);
    expect(withModule({ path: 'db/x.ts', imports: ['db/y.ts'] })).toHaveLength(1);
  });

  test('find who reads the environment or handles signals', () => {
    expect(withModule({ path: 'db/x.ts', text: 'process.env["X"]' })).toEqual([
      'db/x.ts: reads the environment',
    ]);
    expect(withModule({ path: 'db/x.ts', text: "import { env } from 'node:process'" })).toHaveLength(1);
    for (const listen of ['on', 'once', 'addListener']) {
      expect(withModule({ path: 'db/x.ts', text: `process.${listen}('SIGTERM', stop)` })).toHaveLength(1);
    }
  });

  test('fail when they find nothing to look at', () => {
    expect(findViolations([]).length).toBeGreaterThan(5);
  });
});
