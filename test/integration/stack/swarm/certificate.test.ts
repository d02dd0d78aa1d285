import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '#dev/root.ts';
import { parseCertificate } from '#interlock/certificates.ts';
import { createAuthority, type TestCertificate } from '#kit/certificates.ts';
import { scratchFolder } from '#kit/process.ts';

/** Stands in for Docker's command line: secrets are files of `secrets/`, and `mounted` has those of the service interlock. */
const DOCKER = `#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$FAKE/log"
case "$*" in
  'version '*) echo 1 ;;
  info*ControlAvailable*) echo true ;;
  'secret inspect --format '*)
    for name in "\${@:5}"; do
      label=\${name#turnout_certificate_}
      echo "$(stat -c %Y "$FAKE/secrets/$name") \${label%_*} $name"
    done
    ;;
  'secret inspect '*) [ -e "$FAKE/secrets/$3" ] ;;
  'secret create '*) cat >"$FAKE/secrets/\${@: -2:1}" ;;
  'secret ls '*) ls "$FAKE/secrets" ;;
  'secret rm '*) rm "$FAKE/secrets/$3" ;;
  'service inspect '*) [ -e "$FAKE/mounted" ] && cat "$FAKE/mounted" ;;
  'service update '*)
    [ ! -e "$FAKE/fails" ] || exit 1
    sed -n 's/.*source=\\([^,]*\\),target=\\([^,]*\\),.*/\\1 \\2/p' <<<"$*" >"$FAKE/mounted"
    ;;
esac
`;
const RUN_MS_MAX = 40_000;
const run = promisify(execFile);

let scratch: Awaited<ReturnType<typeof scratchFolder>>;
let files: TestCertificate;

const at = (name: string): string => join(scratch.path, name);
const bash = (...args: string[]) =>
  run('bash', args, {
    env: { PATH: `${scratch.path}:${process.env['PATH']}`, FAKE: scratch.path },
    timeout: RUN_MS_MAX,
  });
const install = (...args: string[]) => bash(join(ROOT, 'stack/swarm/certificate.sh'), ...args);
const secrets = (): Promise<string[]> => readdir(at('secrets'));
const updates = async (): Promise<string[]> =>
  (await readFile(at('log'), 'utf8')).split('\n').filter((line) => line.startsWith('service update'));
const renew = (): void => {
  files = createAuthority(scratch.path).issue('vote.test');
};

beforeEach(async () => {
  scratch = await scratchFolder();
  await writeFile(at('docker'), DOCKER, { mode: 0o755 });
  await mkdir(at('secrets'));
  await writeFile(at('log'), '');
  renew();
});

afterEach(() => scratch.remove());

describe('certificate.sh', () => {
  test('creates a secret that the controller can read, before the first deployment', async () => {
    await install('tls', files.cert, files.key);
    const [name = ''] = await secrets();
    expect(name).toMatch(/^turnout_certificate_tls_[0-9a-f]{12}$/);
    const { pem, fingerprint } = parseCertificate(await readFile(at(`secrets/${name}`), 'utf8'));
    expect(pem).toContain('PRIVATE KEY');
    expect(fingerprint).toBeDefined();
    expect(await updates()).toEqual([]);
  });

  test('replaces the secret of the controllers, and removes the old one', async () => {
    await writeFile(at('mounted'), '');
    await install('tls', files.cert, files.key);
    const [first] = await secrets();
    renew();
    await install('tls', files.cert, files.key);
    const [second, ...others] = await secrets();
    expect([second === first, others]).toEqual([false, []]);
    expect(await updates()).toEqual([
      expect.stringMatching(`--secret-add source=${first},target=tls.pem,.* turnout_interlock$`),
      expect.stringMatching(
        `--secret-add source=${second},target=tls.pem,.*--secret-rm ${first} turnout_interlock$`,
      ),
    ]);
  });

  test('changes nothing when it is run again, and completes a run that failed', async () => {
    await writeFile(at('mounted'), '');
    await writeFile(at('fails'), '');
    await expect(install('tls', files.cert, files.key)).rejects.toThrow();
    await rm(at('fails'));
    await install('tls', files.cert, files.key);
    await install('tls', files.cert, files.key);
    expect(await updates()).toHaveLength(2);
    expect(await secrets()).toHaveLength(1);
  });

  test.each([
    ['a key of another certificate', 'is not the key of'],
    ['an expired certificate', 'has expired'],
    ['no certificate', 'has no certificate in PEM'],
    ['a name with a slash', 'NAME must have'],
  ])('refuses %s, and changes nothing', async (what, reason) => {
    let { cert, key } = files;
    if (what.startsWith('a key')) key = createAuthority(scratch.path).issue('other.test').key;
    if (what.startsWith('no')) cert = files.key;
    if (what.startsWith('an expired')) {
      cert = at('expired.pem');
      await createExpired(key, cert);
    }
    const name = what.startsWith('a name') ? 'a/b' : 'tls';
    await expect(install(name, cert, key)).rejects.toMatchObject({ stderr: expect.stringContaining(reason) });
    expect([await secrets(), existsSync(at('mounted'))]).toEqual([[], false]);
  });

  test('passes the key by no argument', async () => {
    await install('tls', files.cert, files.key);
    const body = (await readFile(files.key, 'utf8')).split('\n')[1] ?? '';
    expect(await readFile(at('log'), 'utf8')).not.toContain(body);
  });
});

test('deploy.sh keeps the certificates of the controllers', async () => {
  await install('tls', files.cert, files.key);
  await install('other', files.cert, files.key);
  const { stdout } = await bash(
    '-c',
    `. ${join(ROOT, 'stack/swarm/lib.sh')}; certificate_secrets | stack_of_certificates`,
  );
  const { services, secrets: declared } = parse(stdout);
  const targets = services.interlock.secrets.map(({ target }: { target: string }) => target);
  expect(targets.toSorted()).toEqual(['other.pem', 'tls.pem']);
  for (const { source } of services.interlock.secrets) {
    expect(await secrets()).toContain(declared[source].name);
    expect(declared[source].external).toBe(true);
  }
});

/** Creates a certificate with a validity in the past, through the `ca` command, the only one of OpenSSL 3.0 that takes dates. */
async function createExpired(key: string, cert: string): Promise<void> {
  const csr = at('csr');
  await run('openssl', ['req', '-new', '-key', key, '-subj', '/CN=x', '-out', csr]);
  await writeFile(at('index'), '');
  await writeFile(at('serial'), '01\n');
  const config = `[ca]\ndefault_ca=c\n[c]\ndatabase=${at('index')}\nserial=${at('serial')}\nnew_certs_dir=${scratch.path}\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n`;
  await writeFile(at('ca.cnf'), config);
  const dates = ['-startdate', '200101000000Z', '-enddate', '200102000000Z'];
  const options = ['-batch', '-selfsign', '-notext', '-keyfile', key, '-in', csr, '-out', cert];
  await run('openssl', ['ca', '-config', at('ca.cnf'), ...options, ...dates]);
}
