import { execFile } from 'node:child_process';
import { access, cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';

const run = promisify(execFile);

/** images.sh with a stand-in for Docker: the arguments of its builds. */
let scratch: Awaited<ReturnType<typeof scratchFolder>>;

beforeEach(async () => {
  scratch = await scratchFolder();
  for (const file of ['stack/swarm', 'package.json'])
    await cp(join(ROOT, file), join(scratch.path, file), { recursive: true });
  await mkdir(join(scratch.path, 'dist'));
  for (const name of ['vote', 'issuer', 'worker', 'results', 'dashboard', 'interlock'])
    await writeFile(join(scratch.path, `dist/${name}.mjs`), '');
  await writeFile(join(scratch.path, 'docker'), '#!/bin/sh\necho "$*" >>"$CALLS"\n', { mode: 0o755 });
});

afterEach(() => scratch.remove());

/** Runs a command of images.sh, and returns its output. */
async function images(command: string, settings: Readonly<Record<string, string>> = {}): Promise<string> {
  const calls = join(scratch.path, 'calls');
  await writeFile(calls, '');
  const { stdout } = await run('bash', [join(scratch.path, 'stack/swarm/images.sh'), command], {
    env: { PATH: `${scratch.path}:${process.env['PATH']}`, CALLS: calls, ...settings },
  });
  return stdout;
}

const callsOf = async (): Promise<string[]> =>
  (await readFile(join(scratch.path, 'calls'), 'utf8')).split('\n').filter(Boolean);

/** Builds all images, and returns the calls of Docker. */
async function build(settings: Readonly<Record<string, string>> = {}): Promise<string[]> {
  await images('build', settings);
  return (await callsOf()).filter((call) => call.startsWith('build '));
}

test('every build pulls the newest base images, except with TURNOUT_PULL=no', async () => {
  const [pulling, local] = [await build(), await build({ TURNOUT_PULL: 'no' })];
  expect(pulling).toHaveLength(10);
  for (const call of pulling) expect(call).toContain(' --pull ');
  for (const call of local) expect(call).not.toContain('--pull');
});

describe('publish', () => {
  /** A Docker that writes the digest of what it has pushed, unless `digest` is empty. */
  const pushing = (digest: string): Promise<void> =>
    writeFile(
      join(scratch.path, 'docker'),
      `#!/bin/sh
echo "$*" >>"$CALLS"
while [ $# -gt 0 ]; do
  [ "$1" != --metadata-file ] || printf '{\n  "containerimage.digest": "${digest}"\n}\n' >"$2"
  shift
done
`,
      { mode: 0o755 },
    );
  const REGISTRY = { TURNOUT_REGISTRY: 'registry.example.com/team', TURNOUT_VERSION: '1.2.3' };

  test('pushes every image for both architectures with SBOM and provenance, and prints the digests', async () => {
    const digest = `sha256:${'0a'.repeat(32)}`;
    await pushing(digest);
    const said = await images('publish', REGISTRY);
    const builds = (await callsOf()).filter((call) => call.startsWith('buildx build '));
    expect(builds).toHaveLength(10);
    for (const call of builds) {
      expect(call).toContain(' --platform linux/amd64,linux/arm64 ');
      expect(call).toContain(' --sbom=true --provenance=mode=max --push ');
      expect(call).toContain(' --pull ');
      expect(call).toContain(' --label org.opencontainers.image.version=1.2.3 ');
    }
    expect(said.trim().split('\n')).toHaveLength(10);
    expect(said).toContain(`registry.example.com/team/turnout-vote:1.2.3@${digest}\n`);
  });

  test('fails when an image has no digest, and without a registry', async () => {
    await pushing('');
    await expect(images('publish', REGISTRY)).rejects.toThrow('was pushed without a digest');
    await expect(images('publish')).rejects.toThrow('TURNOUT_REGISTRY must name the registry');
    expect(await callsOf()).toEqual([]);
  });
});

describe('bundle', () => {
  test('builds dist/ in a container', async () => {
    await images('bundle');
    const [, call] = await callsOf();
    expect(call).toMatch(
      /^build --quiet --pull --file \S+\/stack\/Dockerfile.bundles --output \S+\/dist \S+$/,
    );
  });

  test('has what the build needs in its context', async () => {
    const context = join(scratch.path, 'context');
    const ignored = await readFile(join(ROOT, 'stack/Dockerfile.bundles.dockerignore'), 'utf8');
    for (const [, path = ''] of ignored.matchAll(/^!(\S+)$/gm))
      await cp(join(ROOT, path), join(context, path), { recursive: true });
    // The build compares paths of modules, so that a symbolic link would not do; another file system has no hard links.
    const [from, to] = [join(ROOT, 'node_modules'), join(context, 'node_modules')];
    await run('cp', ['-alT', from, to]).catch(() => run('cp', ['-aT', from, to]));
    const dockerfile = await readFile(join(ROOT, 'stack/Dockerfile.bundles'), 'utf8');
    const [, command = ''] = dockerfile.match(/^RUN (node .*)$/m) ?? [];
    await run('bash', ['-c', command], { cwd: context });
    const copied = [
      ...(await readFile(join(ROOT, 'stack/Dockerfile'), 'utf8')).matchAll(/^COPY (dist\/\S+)/gm),
    ];
    expect(copied.length).toBeGreaterThan(15);
    for (const [, path = ''] of copied) await access(join(context, path));
  });
});
