import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { VOTE_NODE_FLAGS } from '#runtime/node-flags.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const BUNDLES = ['vote', 'issuer', 'results', 'dashboard', 'worker', 'interlock'];

/** Returns the lines of one build stage. */
function stage(name: string): string[] {
  const stages = read('stack/Dockerfile').split(/^FROM /m);
  const found = stages.find((text) => text.split('\n', 1)[0]?.endsWith(` AS ${name}`));
  return found?.split('\n') ?? [];
}

test('the vote image starts Node with VOTE_NODE_FLAGS', () => {
  expect(stage('process')).toContain('ENTRYPOINT ["node"]');
  const command = stage('vote').find((line) => line.startsWith('CMD '));
  expect(JSON.parse(command?.slice('CMD '.length) ?? '')).toEqual([...VOTE_NODE_FLAGS, 'main.mjs']);
});

describe.each(BUNDLES)('the %s image', (name) => {
  test('contains the bundle with its license texts and SBOM', () => {
    expect(stage(name)).toEqual(
      expect.arrayContaining([
        `COPY dist/${name}.mjs main.mjs`,
        `COPY dist/${name}.NOTICES.txt NOTICES.txt`,
        `COPY dist/${name}.cdx.json sbom.cdx.json`,
      ]),
    );
  });
});

test.each([
  ['vote', 9080],
  ['results', 9081],
  ['dashboard', 9082],
  ['worker', 9083],
  ['issuer', 9085],
])('the %s container is healthy once its process has been ready', (name, port) => {
  const check = stage(name).find((line) => line.startsWith('HEALTHCHECK '));
  expect(check).toContain(' --start-period=5m ');
  expect(check).toMatch(new RegExp(`CMD \\["bash", "health.sh", "${port}", "/startupz"\\]$`));
});

test('the build context contains what the images copy from dist', () => {
  const allowed = read('.dockerignore').split('\n');
  for (const pattern of ['!dist/*.mjs', '!dist/*.NOTICES.txt', '!dist/*.cdx.json', '!dist/bull-board-ui']) {
    expect(allowed).toContain(pattern);
  }
});
