import { expect, test } from 'vitest';
import { StartError } from '#dev/errors.ts';
import { renderWelcome } from '#dev/start/welcome.ts';
import { renderTable } from '#dev/table.ts';
import { coloured, plain, Terminal } from '#dev/terminal.ts';
import { ConfigError } from '#runtime/config.ts';

function collect() {
  const texts = { out: '', errors: '' };
  const write = (key: keyof typeof texts) => ({
    write: (text: string) => {
      texts[key] += text.replaceAll(/\d+\.\d s/g, '0.0 s');
    },
  });
  return { texts, terminal: new Terminal(write('out'), write('errors'), plain) };
}

test('writes a step as one line', async () => {
  const { texts, terminal } = collect();
  expect(await terminal.step('Building', () => 42)).toBe(42);
  expect(texts.out).toBe('Building … done (0.0 s)\n');
});

test('marks a failed step and throws; the reason goes to standard error', async () => {
  const { texts, terminal } = collect();
  await terminal
    .step('Building', () => Promise.reject(new StartError('the build failed', ['line 1', 'line 2'])))
    .catch((error: unknown) => terminal.error(error));
  expect(texts).toEqual({
    out: 'Building … failed (0.0 s)\n',
    errors: 'the build failed\n  line 1\n  line 2\n',
  });
});

test('marks an aborted step as interrupted', async () => {
  const { texts, terminal } = collect();
  const work = terminal.step('Waiting', () => AbortSignal.abort().throwIfAborted());
  await expect(work).rejects.toThrow();
  expect(texts.out).toBe('Waiting … interrupted (0.0 s)\n');
});

test('writes a line during a step on a line of its own', async () => {
  const { texts, terminal } = collect();
  await terminal.step('Stopping', () => terminal.line('redis was killed'));
  expect(texts.out).toBe('Stopping … \nredis was killed\nStopping … done (0.0 s)\n');
});

test('writes a configuration error as one line, a bug with its stack', () => {
  const { texts, terminal } = collect();
  terminal.error(new ConfigError(['PORT is wrong']));
  expect(texts.errors).toBe('configuration: PORT is wrong\n');
  terminal.error(new TypeError('a bug'));
  expect(texts.errors).toMatch(/TypeError: a bug\n\s+at /);
});

test('makes table columns as wide as their widest cell', () => {
  const table = renderTable(
    ['NAME', 'URL'],
    [
      ['a', 'http://localhost/'],
      ['longer name', 'x'],
    ],
  );
  expect(table).toMatchInlineSnapshot(`
    "NAME         URL
    ───────────  ─────────────────
    a            http://localhost/
    longer name  x"
  `);
});

test('right-aligns table columns from a given one on', () => {
  const rows = [
    ['power', '3', '12'],
    ['freeze', '10', ''],
  ];
  expect(renderTable(['FAULT', 'N', 'LOST'], rows, plain, { rightAlignedFrom: 1 })).toBe(
    ['FAULT    N  LOST', '──────  ──  ────', 'power    3    12', 'freeze  10'].join('\n'),
  );
});

test('shows where to click, how to vote and how to stop', () => {
  const welcome = {
    services: [
      { name: 'results', about: 'live results', where: 'http://localhost:8081/', log: 'l/results.log' },
    ],
    vote: 'http://localhost:8080/',
    results: 'http://localhost:8081/',
    dashboard: 'http://localhost:8082/',
    dashboardUser: 'admin',
    dashboardUsersFile: '.turnout/secrets/dashboard.users',
    poll: 'cats-vs-dogs',
    choice: 'cats',
    data: '.turnout/',
  };
  expect(renderWelcome(welcome)).toMatchInlineSnapshot(`
    "
    NAME     WHAT          WHERE                   LOG
    ───────  ────────────  ──────────────────────  ─────────────
    results  live results  http://localhost:8081/  l/results.log

    Turnout is running.

    Vote:       http://localhost:8080/
    Results:    http://localhost:8081/
    Dashboard:  http://localhost:8082/  (user admin, password in .turnout/secrets/dashboard.users)
    Try:        curl -i -d choice=cats http://localhost:8080/polls/cats-vs-dogs/votes

    Press Ctrl-C to stop. Votes stay in .turnout/ for the next start."
  `);
  expect(renderWelcome(welcome, coloured)).toContain('\u001B[');
});
