import { describe, expect, test } from 'vitest';
import { findViolations, type Module, readModules } from '../imports.ts';

const modules = readModules();
const withModule = (module: Partial<Module> & { path: string }) =>
  findViolations([...modules, { imports: [], text: '', ...module }]);

describe('the import rules', () => {
  test('hold, and every unit has a file', () => {
    expect(modules.length).toBeGreaterThan(50);
    expect(modules.filter(({ imports }) => imports.length > 0).length).toBeGreaterThan(40);
    expect(findViolations(modules)).toEqual([]);
  });

  test('refuse a handler that imports the database, by alias or by path', () => {
    const violation = 'handlers/vote/x.ts: must not import db/client.ts';
    expect(withModule({ path: 'handlers/vote/x.ts', imports: ['#db/client.ts'] })).toEqual([violation]);
    expect(withModule({ path: 'handlers/vote/x.ts', imports: ['../../db/client.ts'] })).toContain(violation);
  });

  test('refuse a long relative path where an alias exists', () => {
    const violations = withModule({ path: 'handlers/vote/x.ts', imports: ['../../stack/runtime/log.ts'] });
    expect(violations).toEqual([expect.stringContaining('needs an alias')]);
  });

  test('refuse a file outside every unit, and an import of a missing file', () => {
    expect(withModule({ path: 'stack/x.ts' })).toEqual([expect.stringContaining('belongs to no unit')]);
    expect(withModule({ path: 'db/x.ts', imports: ['./y.ts'] })).toEqual([
      'db/x.ts: imports db/y.ts, which is not a source file',
    ]);
  });

  test('refuse a cycle between folders', () => {
    const violations = withModule({ path: 'test/kit/x.ts', imports: ['#bench/options.ts'] });
    expect(violations).toContain('bench/: imports itself through other folders');
    expect(violations).toContain('test/kit/: imports itself through other folders');
  });

  test('refuse reading the environment and handling signals', () => {
    expect(withModule({ path: 'db/x.ts', text: 'process.env["X"]' })).toEqual([
      'db/x.ts: reads the environment',
    ]);
    expect(withModule({ path: 'db/x.ts', text: "import { env } from 'node:process'" })).toHaveLength(1);
    for (const listen of ['on', 'once', 'addListener']) {
      expect(withModule({ path: 'db/x.ts', text: `process.${listen}('SIGTERM', stop)` })).toHaveLength(1);
    }
  });

  test('fail when they find no file', () => {
    expect(findViolations([]).length).toBeGreaterThan(5);
  });
});
