import { execFile, execFileSync } from 'node:child_process';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findProgram } from '#dev/path.mjs';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';

/**
 * install-docker.sh against the package index of each Debian release, as on a machine without Docker: apt reads the real index
 * into a scratch folder and simulates the installation. What the script does on Ubuntu and Amazon Linux has never been run.
 */
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg';
const RUN_MS_MAX = 100_000;
const TOOLS = ['apt-cache', 'bash', 'basename', 'cat', 'chmod', 'dirname', 'sed', 'sh', 'sleep', 'tee'];

/** Stands in for apt-get: reads the index, records the simulated installation, and installs a client and an engine. */
const APT = `#!/bin/sh
case " $* " in
  *" install "*)
    PATH="$APT_PATH" "$APT_REAL" --simulate "$@" >"$SCRATCH/installed" || exit
    echo '#!/bin/sh' | tee "$SCRATCH/bin/docker" >"$SCRATCH/bin/dockerd"
    chmod +x "$SCRATCH/bin/docker" "$SCRATCH/bin/dockerd"
    ;;
  *) PATH="$APT_PATH" "$APT_REAL" "$@" ;;
esac
`;

/** The configured mirror of Debian as an entry of a sources list, without the release. */
function findMirror(): string | undefined {
  const apt = findProgram('apt-get');
  if (!apt) return undefined;
  const format = '$(REPO_URI)';
  const targets = execFileSync(apt, ['indextargets', '--format', format, 'Origin: Debian'], {
    encoding: 'utf8',
  });
  const url = targets.split('\n').find((line) => line && !line.includes('security'));
  return url && `deb [signed-by=${KEYS}] ${url}`;
}

const mirror = findMirror();
let scratch: Awaited<ReturnType<typeof scratchFolder>>;

beforeEach(async () => {
  scratch = await scratchFolder();
});

afterEach(() => scratch.remove());

/** Runs install-docker.sh on a machine of this release, and returns the packages that apt would install. */
async function install(release: string): Promise<string[]> {
  const at = scratch.path;
  const bin = join(at, 'bin');
  for (const folder of [
    'bin',
    'lists/partial',
    'cache/archives/partial',
    'etc/apt.conf.d',
    'etc/preferences.d',
  ])
    await mkdir(join(at, folder), { recursive: true });
  await writeFile(join(at, 'status'), '');
  await writeFile(join(at, 'etc/sources.list'), `${mirror} ${release} main\n`);
  const config = [
    ...['State', 'Cache', 'Etc'].map(
      (name) => `Dir::${name} "${at}${name === 'State' ? '' : `/${name.toLowerCase()}`}";`,
    ),
    `Dir::State::status "${at}/status"; Dir::Etc::sourcelist "${at}/etc/sources.list"; Dir::Etc::sourceparts "-";`,
    'Acquire::Languages "none"; APT::Sandbox::User "root";',
  ];
  await writeFile(join(at, 'apt.conf'), config.join('\n'));
  for (const tool of TOOLS) await symlink(findProgram(tool) ?? '', join(bin, tool));
  await writeFile(join(bin, 'apt-get'), APT, { mode: 0o755 });
  await promisify(execFile)(join(bin, 'bash'), [join(ROOT, 'stack/swarm/install-docker.sh')], {
    env: {
      PATH: bin,
      SCRATCH: at,
      APT_CONFIG: join(at, 'apt.conf'),
      APT_PATH: process.env['PATH'] ?? '',
      APT_REAL: findProgram('apt-get') ?? '',
    },
    timeout: RUN_MS_MAX,
  });
  const simulated = await readFile(join(at, 'installed'), 'utf8');
  return [...simulated.matchAll(/^Inst (\S+)/gm)].map(([, name = '']) => name);
}

describe.skipIf(mirror === undefined)('install-docker.sh', () => {
  test.each([
    // The client is in docker.io.
    [
      'bookworm',
      ['docker.io', 'containerd', 'runc', 'iptables', 'curl', 'ca-certificates', 'openssl'],
      ['docker-cli'],
    ],
    [
      'trixie',
      ['docker.io', 'docker-cli', 'containerd', 'runc', 'iptables', 'curl', 'ca-certificates', 'openssl'],
      [],
    ],
  ])('installs engine, client and the programs of the scripts on %s', async (release, wanted, unwanted) => {
    const packages = await install(release);
    expect(packages).toEqual(expect.arrayContaining(wanted));
    expect(packages).not.toEqual(expect.arrayContaining(['git', 'needrestart']));
    for (const name of unwanted) expect(packages).not.toContain(name);
  });
});
