import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Metafile } from 'esbuild';
import { ROOT } from './bundling.ts';

/** A third-party package of which a bundle contains code. */
interface Package {
  readonly name: string;
  readonly version: string;
  /** SPDX expression of its package.json. */
  readonly license: string;
  readonly author: string | undefined;
  /** Subresource integrity of its tarball, such as `sha512-…`; absent where the lock file has none. */
  readonly integrity: string | undefined;
  readonly licenseText: string;
}

interface BundleContents {
  /** The bundle's path without `.mjs`. */
  readonly base: string;
  readonly metafile: Metafile;
  /** Directories of packages whose files ship beside the bundle, such as `node_modules/@bull-board/ui`. */
  readonly alsoShipped?: readonly string[] | undefined;
}

const PACKAGE_DIRECTORY = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/;
const LICENSE_FILE = /^(licen[cs]e|copying|notice)(\.|$)/i;

const PROJECT = readJson('package.json') as { readonly version: string; readonly license: string };
const LOCK = readJson('package-lock.json') as {
  readonly packages: Readonly<Record<string, { readonly integrity?: string }>>;
};

/**
 * Writes `<base>.NOTICES.txt` (license texts) and `<base>.cdx.json` (CycloneDX 1.6 SBOM) beside a bundle. Both depend on
 * the bundle's contents alone, without a date or a serial number, so equal builds stay byte-identical.
 */
export function writeLicenses({ base, metafile, alsoShipped = [] }: BundleContents): void {
  const directories = new Set([...bundledDirectories(metafile), ...alsoShipped]);
  const packages = [...directories].map(readPackage).toSorted((a, b) => compare(a.name, b.name));
  // esbuild collects the license comments of the sources there.
  const legalFile = `${base}.mjs.LEGAL.txt`;
  const comments = existsSync(legalFile) ? readFileSync(legalFile, 'utf8') : '';
  rmSync(legalFile, { force: true });
  writeFileSync(`${base}.NOTICES.txt`, formatNotices(packages, comments));
  writeFileSync(`${base}.cdx.json`, `${JSON.stringify(formatSbom(basename(base), packages), null, 2)}\n`);
}

/** Returns the directories of the packages that contribute at least one byte. */
function bundledDirectories(metafile: Metafile): string[] {
  return Object.values(metafile.outputs)
    .flatMap(({ inputs }) => Object.entries(inputs))
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
    .flatMap(([path]) => PACKAGE_DIRECTORY.exec(path)?.[0] ?? []);
}

function readPackage(directory: string): Package {
  const manifest = readJson(join(directory, 'package.json')) as {
    readonly name: string;
    readonly version: string;
    readonly license: string;
    readonly author?: string | { readonly name: string };
  };
  const { name, version, license, author } = manifest;
  return {
    name,
    version,
    license,
    author: typeof author === 'object' ? author.name : author,
    integrity: LOCK.packages[directory]?.integrity,
    licenseText: readLicenseText(directory, license),
  };
}

/** @throws Error when a package has no license file and its license is not MIT */
function readLicenseText(directory: string, license: string): string {
  const files = readdirSync(join(ROOT, directory)).filter((file) => LICENSE_FILE.test(file));
  if (files.length > 0) {
    return files.map((file) => readFileSync(join(ROOT, directory, file), 'utf8').trim()).join('\n\n');
  }
  if (license !== 'MIT') throw new Error(`${directory} has no license file, and ${license} is not MIT`);
  return `(The package has no license file; this is the text of the license it declares.)\n\n${mitText()}`;
}

/** Returns the text of the MIT license, which is also Turnout's, without its copyright line. */
function mitText(): string {
  return readFileSync(join(ROOT, 'LICENSE'), 'utf8')
    .replace(/^Copyright.*\n+/m, '')
    .trim();
}

function formatNotices(packages: readonly Package[], comments: string): string {
  const sections = packages.map(({ name, version, license, author, licenseText }) =>
    [`${name} ${version} (${license})${author ? `, by ${author}` : ''}`, '', licenseText].join('\n'),
  );
  const intro = 'This bundle contains code of the following packages, under their own licenses.';
  return `${[intro, ...sections, ...(comments ? [comments.trim()] : [])].join(`\n\n${'-'.repeat(80)}\n\n`)}\n`;
}

function formatSbom(bundle: string, packages: readonly Package[]) {
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      component: {
        type: 'application',
        'bom-ref': `turnout-${bundle}`,
        name: `turnout-${bundle}`,
        version: PROJECT.version,
        licenses: [{ license: { id: PROJECT.license } }],
      },
    },
    components: packages.map((one) => {
      const purl = `pkg:npm/${one.name.replace('@', '%40')}@${one.version}`;
      return {
        type: 'library',
        'bom-ref': purl,
        name: one.name,
        version: one.version,
        purl,
        licenses: [/\s/.test(one.license) ? { expression: one.license } : { license: { id: one.license } }],
        ...(one.integrity && { hashes: [hashOf(one.integrity)] }),
      };
    }),
  };
}

/** Converts subresource integrity (`sha512-<base64>`) to a CycloneDX hash (hexadecimal). */
function hashOf(integrity: string): { alg: string; content: string } {
  const [algorithm = '', digest = ''] = integrity.split('-', 2);
  return {
    alg: algorithm.toUpperCase().replace('SHA', 'SHA-'),
    content: Buffer.from(digest, 'base64').toString('hex'),
  };
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(join(ROOT, path), 'utf8'));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
