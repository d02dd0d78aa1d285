import { execFile } from 'node:child_process';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import type { LiveReport } from '#handlers/dashboard/live-audit.ts';
import { auditView } from '#handlers/dashboard/view.ts';
import { scratchFolder } from '#kit/process.ts';

const SCRIPTS = join(ROOT, 'stack/swarm');
const RUN_MS_MAX = 40_000;

/**
 * Stands in for Docker's command line: reads its responses from files and logs every command. These tests cover the scripts'
 * decisions; `npm run test:swarm` runs the scripts on a real Swarm.
 */
const DOCKER = `#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$FAKE/log"
case "$*" in
  'version '*) echo 1 ;;
  info*ControlAvailable*) echo true ;;
  info*LocalNodeState*) cat "$FAKE/state" ;;
  'node inspect --format {{index .Spec.Labels "role"}}'*) echo frontend ;;
  'node inspect --format {{.Description.Hostname}}'*) echo frontend01 ;;
  'node ls --quiet') echo 1 ;;
  'stack services --quiet '*) echo turnout_vote ;;
  'stack services '*) echo 'turnout_vote global 2/2' ;;
  'service inspect '*'{{$.Spec.Name}}'*) cat "$FAKE/update" ;;
  'service inspect '*) cut -d ' ' -f 1 "$FAKE/update" ;;
esac
`;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let server: Server;
let answer: (
  path: string,
  method: string,
) => { status?: number; headers?: Record<string, string>; body?: unknown };

beforeEach(async () => {
  folder = await scratchFolder();
  await writeFile(join(folder.path, 'docker'), DOCKER);
  await chmod(join(folder.path, 'docker'), 0o755);
  await writeFile(join(folder.path, 'credentials'), 'operator=secret\n');
  await writeFile(join(folder.path, 'update'), '');
  await writeFile(join(folder.path, 'log'), '');
  server = createServer((request, response) => {
    const { status = 200, headers = {}, body } = answer(request.url ?? '', request.method ?? '');
    response.writeHead(status, headers).end(body === undefined ? '' : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  server.close();
  await folder.remove();
});

/** Runs a script; returns its output and whether it succeeded. */
async function run(script: string, args: readonly string[] = [], env: Record<string, string> = {}) {
  const options = {
    env: {
      PATH: `${folder.path}:/usr/local/bin:/usr/bin:/bin`,
      FAKE: folder.path,
      TURNOUT_CREDENTIALS: join(folder.path, 'credentials'),
      ...env,
    },
    timeout: RUN_MS_MAX,
  };
  return promisify(execFile)('bash', [join(SCRIPTS, script), ...args], options).then(
    ({ stdout }) => ({ succeeded: true, said: stdout }),
    ({ stdout, stderr }: { stdout: string; stderr: string }) => ({ succeeded: false, said: stdout + stderr }),
  );
}

const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
const commands = async () => (await readFile(join(folder.path, 'log'), 'utf8')).split('\n');

describe('retire.sh', () => {
  const outcomes = {
    accepted: 5,
    counted: 5,
    changed: 0,
    superseded: 0,
    rejected: 0,
    pending: 0,
    failed: 0,
    lost: 0,
  };
  const jobs = { accepted: 1, committed: 1, pending: 0, failed: 0, lost: 0 };
  const row = {
    source: 'frontend01.x',
    node: 'frontend01',
    reachable: true,
    retired: false,
    ...outcomes,
    jobs,
    lostJobs: [],
  };
  const queue = {
    name: '10.0.0.1:6379',
    nodes: ['frontend01'],
    fault: undefined,
    waiting: 0,
    active: 0,
    delayed: 0,
    failed: 0,
    memory: { used: 0, max: 0 },
    appendOnlyFile: 'on',
  } as unknown as LiveReport['nodes'][number];
  const report = (changes: Partial<LiveReport> = {}) =>
    auditView({
      asOf: 0,
      reconciledAt: 0,
      rows: [row],
      nodes: [queue],
      postgresFault: undefined,
      ...changes,
    });

  async function retire(ledger: unknown, retirement: { status: number; body: unknown }, status = 200) {
    answer = (path, method) => {
      if (method === 'POST') return retirement;
      return path === '/ledger' ? { status, body: ledger } : { status: status === 200 ? 401 : status };
    };
    const result = await run('retire.sh', ['frontend01', '--url', url()], {
      // The audit does not change during a test, so one check decides.
      TURNOUT_RETIRE_SECONDS_MAX: '0',
    });
    const isReleased = (await commands()).some((command) => command.includes('--label-rm role'));
    return { ...result, isReleased };
  }
  const retired = { status: 200, body: { node: 'frontend01', status: 'retired' } };
  const unknown = { status: 404, body: { code: 'unknown_node' } };

  test('retires a frontend once the audit shows all its votes as counted', async () => {
    const { succeeded, isReleased, said } = await retire(report(), retired);
    expect(said).toContain('5 accepted, 0 pending');
    expect({ succeeded, isReleased }).toEqual({ succeeded: true, isReleased: true });
  });

  test('retires a frontend without any vote', async () => {
    const { succeeded, isReleased } = await retire(report({ rows: [] }), unknown);
    expect({ succeeded, isReleased }).toEqual({ succeeded: true, isReleased: true });
  });

  test.each([
    ['Postgres is unavailable', report({ postgresFault: 'away' })],
    ['no audit has completed yet', report({ postgresFault: 'away', rows: [], reconciledAt: undefined })],
    ['the node is unreachable', report({ rows: [{ ...row, reachable: false }] })],
    [
      'an unreachable node is missing from the audit',
      report({ rows: [], nodes: [{ ...queue, fault: 'away' }] }),
    ],
    ['votes are pending', report({ rows: [{ ...row, pending: 1 }] })],
    ['the response is not an audit', {}],
  ])('keeps its Redis while %s', async (_, ledger) => {
    for (const retirement of [retired, unknown]) {
      expect(await retire(ledger, retirement)).toMatchObject({ succeeded: false, isReleased: false });
    }
  });

  test('rejects a redirect as a response', async () => {
    expect(await retire(report(), retired, 307)).toMatchObject({ succeeded: false, isReleased: false });
  });
});

describe('deploy.sh', () => {
  test('succeeds once every service is up to date', async () => {
    await writeFile(join(folder.path, 'update'), 'completed turnout_vote: update completed\n');
    expect(await run('deploy.sh')).toMatchObject({ succeeded: true });
  });

  test.each(['paused', 'rollback_paused', 'rollback_completed'])(
    'reports a failed update: %s',
    async (state) => {
      await writeFile(join(folder.path, 'update'), `${state} turnout_vote: it ended too early\n`);
      const { succeeded, said } = await run('deploy.sh');
      expect(succeeded).toBe(false);
      expect(said).toContain('turnout_vote: it ended too early');
    },
  );
});

describe('verify.sh', () => {
  const poll = (phase: string) => ({
    poll: 'cats-vs-dogs',
    question: '?',
    choices: [{ id: 'cats', label: 'Cats' }],
    phase,
  });
  let votes: number;

  async function verify(phase: string, env: Record<string, string> = {}) {
    votes = 0;
    answer = (path, method) => {
      if (path === '/') return { body: poll(phase) };
      if (path.startsWith('/receipts/')) return { body: { status: 'counted' } };
      if (path.endsWith('/results')) return { body: {} };
      if (method === 'POST') votes += 1;
      return { status: 202, body: { receipt: 'frontend01.x.1' } };
    };
    return { ...(await run('verify.sh', ['--url', url()], env)), votes };
  }

  test('casts a vote and waits until it is counted', async () => {
    const { succeeded, said, votes: cast } = await verify('open');
    expect({ succeeded, cast }).toEqual({ succeeded: true, cast: 1 });
    expect(said).toContain('The vote is counted.');
  });

  test.each([
    ['not open', {}],
    ['closed', {}],
    ['open', { VOTER_ADMISSION: 'issued' }],
    ['open', { TURNOUT_VERIFY_VOTE: 'no' }],
  ])('only reads pages when votes are refused or disabled: %s %j', async (phase, env) => {
    expect(await verify(phase, env)).toMatchObject({ succeeded: true, votes: 0 });
  });
});

describe('join.sh', () => {
  test('stays in a Swarm whose managers do not respond yet', async () => {
    await writeFile(join(folder.path, 'state'), 'pending\n');
    const args = ['--manager', '127.0.0.1:1', '--advertise', '127.0.0.1'];
    const { succeeded, said } = await run('join.sh', args, { TURNOUT_PENDING_SECONDS_MAX: '0' });
    expect(succeeded).toBe(false);
    expect(said).toContain('whose managers do not respond');
    expect(await commands()).not.toContain('swarm leave --force');
  });
});
