import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findBrokenReferences, type Project, readProject } from '../docs.ts';

const PROJECT: Project = {
  files: [
    'README.md',
    'stack/README.md',
    'stack/swarm/polls.sh',
    'workers/job.ts',
    'aws/units/a.timer',
    'test/unit/workers/job.test.ts',
  ],
  scripts: ['start', 'test', 'test:swarm'],
  read: (path) => (path.endsWith('.sh') ? '# close --reason' : '# Title\n## What it is: a `test`\n'),
};
const check = (text: string, path = 'README.md') => findBrokenReferences(path, text, PROJECT);

test.each([
  'a [link](workers/job.ts), [a folder](stack), [a heading](stack/README.md#what-it-is-a-test), [here](#title)',
  'an [address](https://example.org/x) and `workers/job.ts:12`, `aws/units/*`, `{aws,stack}/`, `workers/<name>`',
  'code that is no path: `a/b`, `handlers`, `stack deploy`, `dist/vote.mjs`, `bench/results/x.json`',
  'npm and prose, npm scripts and `npm`',
  '```sh\nnpm start -- --port 1\nnpm run test:swarm\nnpm ci\n```',
  '`polls.sh close POLL --reason TEXT`, `stack/swarm/polls.sh`, `X=1 polls.sh close`, `*.sh`',
  '`npm test -- workers/job --project unit -t name`, `npm test -- -u`, and `npm test` is fine',
])('accepts %j', (text) => {
  expect(check(text)).toEqual([]);
});

test.each([
  ['[x](workers/jab.ts)', 'README.md:1: the link workers/jab.ts leads nowhere'],
  ['![x](stack/x.png)', 'README.md:1: the link stack/x.png leads nowhere'],
  ['[x](stack/README.md#nothing)', 'README.md:1: stack/README.md has no heading #nothing'],
  ['\nsee `workers/jab.ts`', 'README.md:2: there is no workers/jab.ts'],
  ['```sh\nnpm run lab\n```', 'README.md:2: npm has no script lab'],
  ['`pools.sh close`', 'README.md:1: there is no script pools.sh'],
  ['```sh\nstack/swarm/polls.sh shut x\n```', 'README.md:2: stack/swarm/polls.sh has no shut'],
  ['`polls.sh close x --why y`', 'README.md:1: stack/swarm/polls.sh has no --why'],
  ['`npm test -- workers/jab`', 'README.md:1: npm test -- workers/jab matches no test file'],
])('refuses %j', (text, fault) => {
  expect(check(text)).toEqual([fault]);
});

test('resolves links from the folder of the document', () => {
  expect(check('[up](../README.md), [job](../workers/job.ts)', 'stack/README.md')).toEqual([]);
  expect(check('[here](README.md), [job](workers/job.ts)', 'stack/README.md')).toHaveLength(1);
});

test('finds the documents of this repository', () => {
  expect(readProject().files).toEqual(expect.arrayContaining(['README.md', 'stack/README.md', 'LICENSE']));
});

test('does not count a file that git does not track', () => {
  const root = mkdtempSync(join(tmpdir(), 'turnout-'));
  try {
    for (const name of ['tracked.md', 'result.json']) writeFileSync(join(root, name), '');
    writeFileSync(join(root, 'package.json'), '{"scripts":{}}');
    execFileSync('git', ['init', '--quiet'], { cwd: root });
    execFileSync('git', ['add', 'tracked.md', 'package.json'], { cwd: root });
    expect(readProject(root).files).toEqual(['package.json', 'tracked.md']);
  } finally {
    rmSync(root, { recursive: true });
  }
});
