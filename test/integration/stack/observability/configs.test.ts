import { execFileSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { findProgram } from '#dev/path.mjs';
import { ROOT } from '#dev/root.ts';

const FOLDER = join(ROOT, 'stack/observability');

interface RuleFile {
  readonly groups: readonly { readonly rules: readonly { readonly alert?: string }[] }[];
}

interface RuleTests {
  readonly tests: readonly { readonly promql_expr_test: readonly RuleTest[] }[];
}

interface RuleTest {
  readonly expr: string;
  readonly exp_samples: readonly unknown[];
}

const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { cwd: FOLDER, encoding: 'utf8', stdio: 'pipe' });
const read = <T>(name: string): T => parse(readFileSync(join(FOLDER, name), 'utf8')) as T;

describe.skipIf(!findProgram('promtool'))('Prometheus', () => {
  test('accepts the rules and the configurations of itself and of every collector', () => {
    expect(run('promtool', 'check', 'rules', '--lint=all', '--lint-fatal', 'rules.yml')).toContain('SUCCESS');
    run('promtool', 'check', 'config', 'prometheus.yml');
    const collectors = globSync('collector-*.yml', { cwd: FOLDER });
    expect(collectors).toHaveLength(4);
    // The password is a secret of the stack, so only the syntax can be checked.
    for (const name of collectors) run('promtool', 'check', 'config', '--agent', '--syntax-only', name);
  });

  test('raises each alert beyond its threshold and not before', () => {
    expect(run('promtool', 'test', 'rules', 'rules.test.yml')).toContain('SUCCESS');
  });
});

test('each alert is tested on both sides of its threshold', () => {
  const alerts = read<RuleFile>('rules.yml').groups.flatMap(({ rules }) =>
    rules.flatMap(({ alert }) => alert ?? []),
  );
  const tests = read<RuleTests>('rules.test.yml').tests.flatMap((one) => one.promql_expr_test);
  expect(alerts.length).toBeGreaterThan(0);
  for (const alert of alerts) {
    const fired = tests
      .filter(({ expr }) => expr.includes(`"${alert}"`))
      .map(({ exp_samples }) => exp_samples.length);
    expect(new Set(fired), alert).toEqual(new Set([0, 1]));
  }
});

test.skipIf(!findProgram('amtool'))('Alertmanager accepts its configuration', () => {
  expect(run('amtool', 'check-config', 'alertmanager.yml')).toContain('SUCCESS');
});
