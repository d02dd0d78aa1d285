import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pollsText, reportPolls } from '#audit/polls.ts';
import { reconcile, type SourceAccount } from '#audit/reconcile.ts';
import type { NodeState as EnrolledNode } from '#db/nodes.ts';
import { ROOT } from '#dev/root.ts';
import type { LiveReport } from '#handlers/dashboard/live-audit.ts';
import { auditView } from '#handlers/dashboard/view.ts';
import { audit, enrolled, NODE, node, OTHER_NODE, pollState, SOURCE } from '#kit/audit-fixtures.ts';
import { PIXEL, PIXEL_NAME } from '#kit/images.ts';
import { scratchFolder } from '#kit/process.ts';
import { parsePollsFile } from '#runtime/polls.ts';

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
  info*DockerRootDir*) echo "$FAKE/docker-root" ;;
  info*Swarm.Error*) echo 'x509: certificate has expired' ;;
  'node inspect --format {{index .Spec.Labels "role"}}'*) echo frontend ;;
  'node inspect --format {{.Description.Hostname}}'*) echo frontend01 ;;
  'node ls --quiet') echo 1 ;;
  'secret ls '*) [ ! -e "$FAKE/unlisted" ] || exit 1; [ ! -e "$FAKE/certificate" ] || echo id ;;
  'secret inspect --format '*) echo "1 tls turnout_certificate_tls_1" ;;
  'stack deploy '*) cp "$POLLS_FILE" "$FAKE/polls"; for word; do last=$file file=$word; [ "$last" != -c ] || cat "$word"; done >"$FAKE/deployed" ;;
  'stack services --quiet '*) echo turnout_vote ;;
  'stack services '*) echo 'turnout_vote global 2/2' ;;
  'service ls '*) cat "$FAKE/replicas" ;;
  'service inspect '*StopGracePeriod*) cat "$FAKE/grace" ;;
  'service inspect '*'{{$.Spec.Name}}'*) cat "$FAKE/update" ;;
  'service inspect '*) cut -d ' ' -f 1 "$FAKE/update" ;;
esac
`;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let server: Server;
let answer: (
  path: string,
  method: string,
  body: string,
) => { status?: number; headers?: Record<string, string>; body?: unknown; text?: string };

beforeEach(async () => {
  folder = await scratchFolder();
  await writeFile(join(folder.path, 'docker'), DOCKER);
  await chmod(join(folder.path, 'docker'), 0o755);
  await writeFile(join(folder.path, 'credentials'), 'operator=secret\n');
  await writeFile(join(folder.path, 'update'), '');
  await writeFile(join(folder.path, 'log'), '');
  await writeFile(join(folder.path, 'grace'), '0');
  await writeFile(join(folder.path, 'replicas'), '');
  server = createServer(async (request, response) => {
    const sent = await text(request);
    const {
      status = 200,
      headers = {},
      body,
      text: plain,
    } = answer(request.url ?? '', request.method ?? '', sent);
    response.writeHead(status, headers).end(body === undefined ? plain : JSON.stringify(body));
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
  const row = reconcile({
    nodes: [],
    audits: [{ ...audit(1), votes: 5, counted: 5, acceptedVotes: 5 }],
    knownBefore: new Set(),
  })[0] as SourceAccount;
  const requests: string[] = [];

  /** The dashboard's audit of one node; `changes` are of its report. */
  const ledger = (state: EnrolledNode['state'], changes: Partial<LiveReport> = {}) =>
    auditView({
      asOf: 0,
      reconciledAt: 0,
      nodes: [node({ seqs: { [SOURCE]: 1 } })],
      rows: [row],
      foreign: [],
      enrolled: [enrolled({ state })],
      awaited: new Map(),
      polls: [],
      postgresFault: undefined,
      ...changes,
    });

  /** Runs the script; the dashboard answers with each of these audits, then with the last one again. */
  async function retire(ledgers: readonly unknown[], args: readonly string[] = [], status = 200) {
    requests.length = 0;
    const left = [...ledgers];
    answer = (path, method, body) => {
      if (path !== '/ledger' && method !== 'POST') return { status: status === 200 ? 401 : status };
      if (method !== 'POST') return { status, body: left.length > 1 ? left.shift() : left[0] };
      requests.push(`${path} ${new URLSearchParams(body).get('reason')}`);
      return { status: 202, body: { node: NODE, status: 'retiring' } };
    };
    // The last audit does not change, so few checks decide.
    const env = { TURNOUT_RETIRE_SECONDS_MAX: '2', TURNOUT_REQUEST_SECONDS_MAX: '0' };
    const result = await run('retire.sh', ['frontend01', '--url', url(), ...args], env);
    const isReleased = (await commands()).some((command) => command.includes('--label-rm role'));
    return { ...result, isReleased };
  }
  const done = { succeeded: true, isReleased: true };
  const kept = { succeeded: false, isReleased: false };

  test('requests the retirement with a reason, and releases the Redis once the node is retired', async () => {
    const { said, ...outcome } = await retire(
      [ledger('enrolled'), ledger('retiring'), ledger('retired')],
      ['--reason', 'moves & "grows"'],
    );
    expect(outcome).toEqual(done);
    expect(requests).toEqual([`/nodes/${NODE}/retire moves & "grows"`]);
    expect(said).toContain('5 accepted, 0 pending');
  });

  test('requests the retirement only after the handler has had its time to stop', async () => {
    await writeFile(join(folder.path, 'grace'), '2000000000');
    const startedAt = performance.now();
    let requestedAt = 0;
    const retiring = retire([ledger('enrolled'), ledger('retired')]);
    const answered = answer;
    answer = (path, method, body) => {
      if (method === 'POST') requestedAt = performance.now();
      return answered(path, method, body);
    };
    expect(await retiring).toMatchObject(done);
    expect(requestedAt - startedAt).toBeGreaterThan(2_000);
  });

  test('continues a retirement that was requested before', async () => {
    expect(await retire([ledger('retiring'), ledger('retired')])).toMatchObject(done);
    expect(requests).toEqual([]);
  });

  test('gives a reason of its own', async () => {
    await retire([ledger('enrolled'), ledger('retired')]);
    expect(requests).toEqual([`/nodes/${NODE}/retire retired by retire.sh`]);
  });

  test.each([
    ['that was never enrolled', []],
    [
      'that is retired already, while others are in use',
      [{ state: 'retired' }, { id: OTHER_NODE, name: 'b' }],
    ],
  ] as const)('releases a frontend %s', async (_what, nodes) => {
    const changes = { rows: [], nodes: [], enrolled: nodes.map((changes) => enrolled(changes)) };
    expect(await retire([ledger('retired', changes)])).toMatchObject(done);
    expect(requests).toEqual([]);
  });

  test.each([
    ['Postgres is unavailable', ledger('retired', { postgresFault: 'away' })],
    [
      'no audit has completed yet',
      ledger('retired', { postgresFault: 'away', enrolled: [], rows: [], reconciledAt: undefined }),
    ],
    ['the node is not in the audit and a queue is unreachable', unreadLedger({ fault: 'away' })],
    ['Postgres does not have the node yet', unreadLedger({})],
    [
      'the node may be one without a name',
      ledger('enrolled', { nodes: [], enrolled: [enrolled({ name: NODE })] }),
    ],
    ['the response is not an audit', {}],
  ])('requests nothing and keeps the Redis while %s', async (_, report) => {
    expect(await retire([report])).toMatchObject(kept);
    expect(requests).toEqual([]);
  });

  function unreadLedger({ fault }: { readonly fault?: string }) {
    const queue = node({ seqs: { [SOURCE]: 1 }, ...(fault && { fault }) });
    const host = fault ? undefined : queue.host;
    return ledger('enrolled', { rows: [], enrolled: [], nodes: [{ ...queue, host }] });
  }

  test.each([
    ['the node is not retired yet', ledger('retiring'), 'not within'],
    ['votes are pending', ledger('retired', { rows: [{ ...row, pending: 1 }] }), 'not within'],
    [
      'jobs have failed',
      ledger('retiring', { rows: [{ ...row, failed: 1 }] }),
      'jobs of frontend01 have failed',
    ],
    ['votes are lost', ledger('retired', { rows: [{ ...row, lost: 1 }] }), 'reports lost votes'],
    ['Postgres goes away', ledger('retired', { postgresFault: 'away' }), 'not within'],
  ])('keeps the Redis after the request while %s', async (_, report, words) => {
    const { said, ...outcome } = await retire([ledger('enrolled'), report]);
    expect(outcome).toEqual(kept);
    expect(said).toContain(words);
  });

  test('retires none of several nodes with its name', async () => {
    const others = [enrolled({ state: 'retiring' }), enrolled({ id: OTHER_NODE })];
    const { said, ...outcome } = await retire([ledger('retired', { enrolled: others })]);
    expect(outcome).toEqual(kept);
    expect(said).toContain('several nodes are named frontend01');
    expect(requests).toEqual([]);
  });

  test('is not misled by what an operator wrote', async () => {
    const writtenOffReason = '{"node":"x","name":"frontend01","state":"retired"} "lost":0,"state":"retired"';
    const report = ledger('retiring', { enrolled: [enrolled({ state: 'retiring', writtenOffReason })] });
    expect(await retire([report])).toMatchObject(kept);
  });

  test('rejects a redirect as a response', async () => {
    expect(await retire([ledger('retired')], [], 307)).toMatchObject(kept);
  });

  test.each([[['--reason']], [['--nope', 'x']]])('refuses the arguments %j', async (args) => {
    expect(await retire([ledger('retired')], args)).toMatchObject(kept);
  });
});

describe('polls.sh', () => {
  const POLL = 'cats-vs-dogs';
  const WHY = ['--reason', 'the host says "now" & more'];
  let changes: Record<string, string>[];

  /** What the dashboard shows: of one node, which holds these revisions one after the other, then the last. */
  const states = (revisions: readonly number[], why = 'x'): (() => string) => {
    const left = [...revisions];
    return () => {
      const revision = (left.length > 1 ? left.shift() : left[0]) ?? 0;
      const polls = ['a', POLL, `${POLL}-2`].map((id) =>
        pollState({ id, revision: id === POLL ? 3 : 9, change: { at: 0, who: 'ada', what: 'open', why } }),
      );
      const nodes = [node({ polls: new Map([[POLL, revision]]) })];
      return `${pollsText(reportPolls({ polls, awaited: new Map(), enrolled: [enrolled()], nodes }, 1))}\n`;
    };
  };

  /** Runs the script; the dashboard answers a change with this, and shows these polls. */
  async function polls(
    args: readonly string[],
    outcome: { status?: number; body?: unknown } = {},
    show = states([3]),
  ) {
    changes = [];
    answer = (path, method, body) => {
      if (path === '/polls.txt') return { text: show() };
      if (method !== 'POST') return {};
      changes.push({ path, ...Object.fromEntries(new URLSearchParams(body)) });
      return { status: 202, body: { poll: POLL, action: 'x', status: 'done' }, ...outcome };
    };
    return run('polls.sh', [...args, '--url', url()], { TURNOUT_TAKEN_SECONDS_MAX: '2' });
  }

  test.each([
    [['open', POLL], { path: `/polls/${POLL}/open` }],
    [['close', POLL], { path: `/polls/${POLL}/close` }],
    [['forget', POLL], { path: `/polls/${POLL}/forget` }],
    [['extend', POLL, '--minutes', '5'], { path: `/polls/${POLL}/extend`, minutes: '5' }],
    [
      ['extend', POLL, '--until', '2027-02-07T23:30:00+01:00'],
      { path: `/polls/${POLL}/extend`, closesAt: '2027-02-07T23:30:00+01:00' },
    ],
    [['embargo', POLL], { path: `/polls/${POLL}/embargo`, results: 'closed' }],
    [['embargo', POLL, '--lift'], { path: `/polls/${POLL}/embargo`, results: 'live' }],
  ])('%j requests the change once, with the reason, and shows the poll alone', async (args, change) => {
    const { succeeded, said } = await polls([...args, ...WHY]);
    expect(said).toMatch(
      /^cats-vs-dogs {2}open, revision 3\n {2}Taken by 1 of 1 nodes[^\n]*\n {2}Last change[^\n]*\n$/,
    );
    expect(succeeded).toBe(true);
    expect(changes).toEqual([{ ...change, reason: WHY[1] }]);
  });

  test('waits until every node and handler has taken the change', async () => {
    const { succeeded, said } = await polls(['close', POLL, ...WHY], {}, states([2, 3]));
    expect(succeeded).toBe(true);
    expect(said).toContain('Taken by 1 of 1 nodes');
  });

  test('fails with the names of those that have not taken it', async () => {
    const { succeeded, said } = await polls(['close', POLL, ...WHY], {}, states([2]));
    expect(succeeded).toBe(false);
    expect(said).toContain(`not yet by frontend01 (${NODE})`);
    expect(changes).toHaveLength(1);
  });

  test('is not misled by what an operator wrote', async () => {
    const why = 'x).\n  Taken by 0 of 1 nodes; not yet by y';
    expect(await polls(['close', POLL, ...WHY], {}, states([3], why))).toMatchObject({
      succeeded: true,
    });
  });

  test('says that nothing changed, and why', async () => {
    const body = { status: 'unchanged', reason: 'it has closed' };
    const { succeeded, said } = await polls(['close', POLL, ...WHY], { body });
    expect(succeeded).toBe(true);
    expect(said).toMatch(/^Nothing changed: it has closed\.\n/);
  });

  test.each([
    [
      { status: 409, body: { code: 'poll_final', detail: 'its result is "final"' } },
      'does not change: its result is "final"',
    ],
    [{ status: 404, body: { code: 'unknown_poll', detail: 'no poll has this id' } }, 'no poll has this id'],
    [{ status: 503, body: undefined }, 'did not change cats-vs-dogs (status 503)'],
    [{ status: 200, body: { status: 'done' } }, 'did not change'],
  ])('fails with the reason for %j', async (outcome, words) => {
    const { succeeded, said } = await polls(['close', POLL, ...WHY], outcome);
    expect(succeeded).toBe(false);
    expect(said).toContain(words);
  });

  test('lists all polls', async () => {
    const { succeeded, said } = await polls(['list']);
    expect(succeeded).toBe(true);
    expect(said.match(/^\S+/gm)).toEqual(['a', POLL, `${POLL}-2`]);
  });

  test.each([
    [[]],
    [['close', POLL]],
    [['close', ...WHY]],
    [['close', 'a/../b', ...WHY]],
    [['shut', POLL, ...WHY]],
    [['close', POLL, ...WHY, '--minutes', '5']],
    [['close', POLL, ...WHY, '--lift']],
    [['list', ...WHY]],
    [['close', POLL, '--reason']],
  ])('refuses the arguments %j', async (args) => {
    const { succeeded, said } = await polls(args);
    expect(succeeded).toBe(false);
    expect(said).toContain('polls.sh close POLL --reason TEXT');
    expect(changes).toEqual([]);
  });
});

describe('deploy.sh', () => {
  test('succeeds once every service is up to date', async () => {
    await writeFile(join(folder.path, 'update'), 'completed turnout_vote: update completed\n');
    expect(await run('deploy.sh')).toMatchObject({ succeeded: true });
  });

  test('keeps the certificates that certificate.sh installed', async () => {
    const deployed = () => readFile(join(folder.path, 'deployed'), 'utf8');
    await run('deploy.sh');
    expect(await deployed()).not.toContain('turnout_certificate');
    await writeFile(join(folder.path, 'certificate'), '');
    await run('deploy.sh');
    expect(await deployed()).toContain('name: "turnout_certificate_tls_1"');
    await rm(join(folder.path, 'deployed'));
    await writeFile(join(folder.path, 'unlisted'), '');
    expect(await run('deploy.sh')).toMatchObject({ succeeded: false });
    await expect(deployed()).rejects.toThrow();
  });

  test('puts the images beside the polls file into it, and refuses what is not there', async () => {
    await writeFile(join(folder.path, 'cat.png'), Buffer.from(PIXEL, 'base64'));
    const pollsFile = join(folder.path, 'polls.json');
    const pollsWith = async (image: string) => {
      const choices = [
        { id: 'cats', label: 'cat.png', image },
        { id: 'dogs', label: 'Dogs' },
      ];
      await writeFile(pollsFile, JSON.stringify({ polls: [{ id: 'pets', question: 'Which?', choices }] }));
      return run('deploy.sh', [], { POLLS_FILE: pollsFile });
    };
    expect(await pollsWith('cat.png')).toMatchObject({ succeeded: true });
    const config = await readFile(join(folder.path, 'polls'), 'utf8');
    const { polls, images } = parsePollsFile(config, 'elsewhere/polls.json');
    expect(polls[0]?.choices[0]).toEqual({ id: 'cats', label: 'cat.png', image: PIXEL_NAME });
    expect([...images.keys()]).toEqual([PIXEL_NAME]);
    await mkdir(join(folder.path, 'pets'));
    await copyFile(join(folder.path, 'cat.png'), join(folder.path, 'pets/cat.png'));
    for (const [image, why] of [
      ['dog.png', 'cannot be read'],
      ['pets/cat.png', 'must be the name of a file beside it'],
    ] as const) {
      const { succeeded, said } = await pollsWith(image);
      expect(succeeded).toBe(false);
      expect(said).toContain(`${pollsFile} names the image ${image}`);
      expect(said).toContain(why);
    }
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
      if (path === '/') return { text: '<main>\n<form method="post" data-poll="cats-vs-dogs">' };
      if (path === '/polls/cats-vs-dogs.json') return { body: poll(phase) };
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
  const joinSwarm = async (state: string, manager = '127.0.0.1:1') => {
    await writeFile(join(folder.path, 'state'), `${state}\n`);
    await writeFile(join(folder.path, 'token'), 'SWMTKN-1-secret\n');
    const args = [
      '--manager',
      manager,
      '--advertise',
      '127.0.0.1',
      '--token-file',
      join(folder.path, 'token'),
    ];
    return run('join.sh', args, { TURNOUT_PENDING_SECONDS_MAX: '0' });
  };
  const address = () => `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hasLeft = async () => (await commands()).includes('swarm leave --force');

  test('stays in a Swarm whose managers do not respond yet', async () => {
    const { succeeded, said } = await joinSwarm('pending');
    expect(succeeded).toBe(false);
    expect(said).toContain('whose managers do not respond');
    expect(await hasLeft()).toBe(false);
  });

  test('leaves a Swarm whose managers respond, but have removed this worker', async () => {
    expect(await joinSwarm('pending', address())).toMatchObject({ succeeded: true });
    expect(await hasLeft()).toBe(true);
  });

  test('stays a manager while it waits for the others', async () => {
    await mkdir(join(folder.path, 'docker-root/swarm/raft'), { recursive: true });
    const { succeeded, said } = await joinSwarm('pending', address());
    expect(succeeded).toBe(false);
    expect(said).toContain('a manager that waits for the others');
    expect(await hasLeft()).toBe(false);
  });

  test.each([
    ['locked', 'docker swarm unlock'],
    ['error', 'has failed: x509: certificate has expired'],
    ['', 'has failed'],
  ])('neither leaves nor joins in the state "%s"', async (state, words) => {
    const { succeeded, said } = await joinSwarm(state, address());
    expect(succeeded).toBe(false);
    expect(said).toContain(words);
    expect(await hasLeft()).toBe(false);
    expect((await commands()).some((command) => command.startsWith('swarm join'))).toBe(false);
  });

  test('joins from outside a Swarm', async () => {
    expect(await joinSwarm('inactive')).toMatchObject({ succeeded: true });
    expect(await hasLeft()).toBe(false);
  });
});

describe('scale.sh', () => {
  /** Runs the script with nodes on which a vote has waited for these times; `changes` are of the dashboard's report. */
  async function scale(
    replicas: string,
    oldestMs: readonly (number | null)[],
    args: readonly string[] = [],
    changes: Partial<LiveReport> = {},
  ) {
    await writeFile(join(folder.path, 'replicas'), `other_worker 9/9\nturnout_worker ${replicas}\n`);
    const report = auditView({
      asOf: 0,
      reconciledAt: 0,
      nodes: oldestMs.map((age) => node({ oldestMs: age })),
      rows: [],
      foreign: [],
      enrolled: [],
      awaited: new Map(),
      polls: [],
      postgresFault: undefined,
      ...changes,
    });
    answer = (path) => (path === '/ledger' ? { body: report } : { status: 401 });
    const { succeeded, said } = await run('scale.sh', ['--url', url(), ...args]);
    const scaled = (await commands()).filter((command) => command.startsWith('service scale'));
    return { succeeded, said, scaled };
  }
  const to = (workers: number) => [`service scale --detach turnout_worker=${workers}`];

  test.each<[string, string, (number | null)[], string[], string[]]>([
    ['adds a worker when a vote waits too long on one node', '2/2', [null, 10_000, 5], [], to(3)],
    ['keeps the workers while votes wait for less', '2/2', [9_999, 9], [], []],
    ['removes a worker when no vote waits', '4/4', [null, null], [], to(3)],
    ['keeps the minimum', '2/2', [null], [], []],
    ['keeps the maximum', '6/6', [60_000], [], []],
    ['has other bounds by its options', '3/3', [5_000], ['--max', '4', '--up-seconds', '5'], to(4)],
    ['returns to the bounds one by one', '9/9', [null], ['--min', '3'], to(8)],
    ['adds none while the last change is under way', '2/3', [60_000], [], []],
  ])('%s', async (_name, replicas, ages, args, scaled) => {
    expect(await scale(replicas, ages, args)).toMatchObject({ succeeded: true, scaled });
  });

  test('adds none when PostgreSQL is away or a node cannot be read', async () => {
    const away = await scale('2/2', [60_000], [], { postgresFault: 'away' });
    expect(away).toMatchObject({ succeeded: true, scaled: [] });
    expect(away.said).toContain('PostgreSQL is unavailable');
    const nodes = [node({ oldestMs: 60_000 }), node({ fault: 'not connected' })];
    expect(await scale('2/2', [], [], { nodes })).toMatchObject({ succeeded: true, scaled: [] });
  });

  test.each([[['--min', '0']], [['--max', 'many']], [['--min', '5', '--max', '4']], [['--nope', '1']]])(
    'refuses the arguments %j',
    async (args) => {
      expect(await scale('2/2', [60_000], args)).toMatchObject({ succeeded: false, scaled: [] });
    },
  );
});
