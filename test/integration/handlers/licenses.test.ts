import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';

/** The bundles of `node handlers/build.ts`, and what documents their third-party code. */
const BUNDLES = ['vote', 'issuer', 'results', 'dashboard', 'worker', 'interlock'];

interface Sbom {
  readonly bomFormat: string;
  readonly specVersion: string;
  readonly components: readonly {
    readonly name: string;
    readonly version: string;
    readonly purl: string;
    readonly licenses: readonly unknown[];
    readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
  }[];
}

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const sbomOf = (bundle: string) => JSON.parse(read(`dist/${bundle}.cdx.json`)) as Sbom;

/** Returns the packages in the bundle's source map, which esbuild writes apart from the metafile. */
function packagesIn(bundle: string): string[] {
  const { sources } = JSON.parse(read(`dist/${bundle}.mjs.map`)) as { readonly sources: readonly string[] };
  const names = sources.flatMap((path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []);
  return [...new Set(names)].toSorted();
}

describe.each(BUNDLES)('the %s bundle', (bundle) => {
  test('has an SBOM of the packages in it, and of no others', () => {
    const { bomFormat, specVersion, components } = sbomOf(bundle);
    expect([bomFormat, specVersion]).toEqual(['CycloneDX', '1.6']);
    // The files of bull-board's UI ship beside the dashboard's bundle.
    const beside = bundle === 'dashboard' ? ['@bull-board/ui'] : [];
    expect(components.map(({ name }) => name).toSorted()).toEqual(
      [...packagesIn(bundle), ...beside].toSorted(),
    );
  });

  test('has the installed version, license and hash of each package in its SBOM', () => {
    const { packages } = JSON.parse(read('package-lock.json')) as {
      readonly packages: Record<string, { readonly version: string; readonly integrity: string }>;
    };
    for (const { name, version, purl, licenses, hashes } of sbomOf(bundle).components) {
      const locked = packages[`node_modules/${name}`];
      expect(version, name).toBe(locked?.version);
      expect(decodeURIComponent(purl)).toBe(`pkg:npm/${name}@${version}`);
      expect(licenses, name).toHaveLength(1);
      const [hash] = hashes ?? [];
      expect(hash?.alg, name).toBe('SHA-512');
      expect(`sha512-${Buffer.from(hash?.content ?? '', 'hex').toString('base64')}`).toBe(locked?.integrity);
    }
  });

  test('has the license text of each package in its NOTICES', () => {
    const notices = read(`dist/${bundle}.NOTICES.txt`);
    const sections = notices.split(`\n${'-'.repeat(80)}\n`);
    for (const { name, version } of sbomOf(bundle).components) {
      const section = sections.find((text) => text.trim().startsWith(`${name} ${version} (`));
      expect(section?.length, name).toBeGreaterThan(500);
      expect(section, name).toMatch(/Permission (is hereby granted|to use)|Apache License/);
    }
  });
});

test('the vote bundle contains hono, bullmq and ioredis under the MIT license', () => {
  const names = sbomOf('vote').components.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(['hono', 'bullmq', 'ioredis']));
  expect(names).not.toEqual(expect.arrayContaining(['pg']));
  const notices = read('dist/vote.NOTICES.txt');
  for (const name of ['hono', 'bullmq', 'ioredis']) {
    const section = notices.split(`\n${'-'.repeat(80)}\n`).find((text) => text.trim().startsWith(`${name} `));
    expect(section, name).toContain('Permission is hereby granted, free of charge');
    expect(section, name).toMatch(/Copyright \(c\)/i);
  }
});
