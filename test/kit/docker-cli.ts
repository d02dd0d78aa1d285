import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Stands in for Docker's command line (see stand-ins.ts) in tests of scripts: one engine and the nodes of its Swarm, in
 * `docker.json`. Any other call fails.
 */
interface Node {
  ID: string;
  Status: { State: string; Addr: string };
  Spec: { Role: string; Labels: Record<string, string> };
  Description: { Hostname: string; Engine: { Labels: Record<string, string> } };
  ManagerStatus?: { Leader?: boolean; Reachability?: string };
}
interface DockerState {
  /** Tasks on each node: name and state. */
  tasks?: Record<string, string[]>;
  /** Of every image in the registry. */
  digest?: string;
  /** Labels of the services that are proxies. */
  proxies?: Record<string, string>[];
  isActive?: boolean;
  isManager?: boolean;
  /** Arguments of `swarm join`. */
  joined?: { manager: string; token: string };
  /** Addresses of unreachable managers. */
  unreachable?: string[];
  nodes?: Node[];
  /** An election is under way. */
  hasNoLeader?: boolean;
  self?: string;
}

const folder = process.env['STAND_INS'] ?? '';
const stateFile = join(folder, 'docker.json');
const state = JSON.parse(readFileSync(stateFile, 'utf8')) as DockerState;
const args = process.argv.slice(2);
appendFileSync(join(folder, 'calls'), `docker ${args.join(' ')}\n`);
const command = ['swarm', 'node', 'service'].includes(args[0] ?? '')
  ? args.slice(0, 2).join(' ')
  : (args[0] ?? '');
const option = (name: string): string => {
  const at = args.indexOf(name);
  return at < 0 ? '' : (args[at + 1] ?? '');
};

function fail(why: string): never {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const save = (): void => writeFileSync(stateFile, JSON.stringify(state));

/** The subset of Go templates that the scripts use: fields, `index` and `with`. */
function render(template: string, value: unknown): string {
  const at = (path: string, from: unknown): unknown =>
    path
      .split('.')
      .filter(Boolean)
      .reduce<unknown>((here, key) => (here as Record<string, unknown> | undefined)?.[key], from);
  const text = (found: unknown): string => (found === undefined ? '' : String(found));
  return template
    .replaceAll(/\{\{with (\S+?)\}\}(.*?)\{\{end\}\}/g, (_, path: string, inner: string) => {
      const found = at(path, value);
      return found === undefined ? '' : render(inner, found);
    })
    .replaceAll(/\{\{index (\S+) "(.+?)"\}\}/g, (_, path: string, key: string) =>
      text((at(path, value) as Record<string, unknown> | undefined)?.[key]),
    )
    .replaceAll(/\{\{(\.\S*?)\}\}/g, (_, path: string) => text(at(path, value)));
}

function find(name: string): Node {
  const wanted = name === 'self' ? state.self : name;
  const node = state.nodes?.find(({ ID, Description }) => [ID, Description.Hostname].includes(wanted ?? ''));
  return node ?? fail(`Error: No such node: ${name}`);
}

/** A row of `docker node ls`. */
const rowOf = ({ ID, Description, Status, ManagerStatus }: Node) => ({
  ID,
  Hostname: Description.Hostname,
  Status: Status.State === 'ready' ? 'Ready' : 'Down',
  ManagerStatus: ManagerStatus?.Leader ? 'Leader' : (ManagerStatus?.Reachability ?? ''),
});

function joinSwarm(): void {
  const manager = args.at(-1) ?? '';
  if (state.unreachable?.includes(manager.replace(':2377', '')))
    fail('Error response from daemon: rpc error');
  Object.assign(state, { isActive: true, joined: { manager, token: option('--token') } });
  state.isManager = option('--token') === 'token-of-a-manager';
  save();
}

function update(): void {
  const { Spec } = find(args.at(-1) ?? '');
  const [key = '', value = ''] = option('--label-add').split('=');
  Spec.Labels[key] = value;
  save();
}

const COMMANDS: Readonly<Record<string, () => void>> = {
  version: () => say('20.10'),
  // This Swarm has no certificates.
  secret: () => (args[1] === 'ls' ? undefined : fail(`docker ${args.join(' ')}`)),
  info: () =>
    say(
      render(option('--format'), {
        Swarm: {
          ControlAvailable: state.isManager === true,
          LocalNodeState: state.isActive ? 'active' : 'inactive',
        },
      }),
    ),
  'swarm init': () => {
    Object.assign(state, { isActive: true, isManager: true });
    save();
  },
  'swarm join': joinSwarm,
  'swarm join-token': () => say(`token-of-a-${args.at(-1)}`),
  'node ls': () => {
    if (state.hasNoLeader) fail('Error response from daemon: rpc error: The swarm does not have a leader');
    const isManagersOnly = args.includes('role=manager');
    for (const node of state.nodes ?? [])
      if (!isManagersOnly || node.Spec.Role === 'manager')
        say(args.includes('--quiet') ? node.ID : render(option('--format'), rowOf(node)));
  },
  'node inspect': () => {
    const names = args.slice(2).filter((arg, i, all) => arg !== '--format' && all[i - 1] !== '--format');
    for (const name of names)
      say(args.includes('--format') ? render(option('--format'), find(name)) : JSON.stringify(find(name)));
  },
  'node update': update,
  'node ps': () => {
    const name = find(args.at(-1) ?? '').Description.Hostname;
    for (const task of state.tasks?.[name] ?? []) say(task);
  },
  'node demote': () => {
    find(args.at(-1) ?? '').Spec.Role = 'worker';
    save();
  },
  'node rm': () => {
    const gone = find(args.at(-1) ?? '');
    if (gone.Spec.Role === 'manager') fail('Error: a manager must be demoted first');
    state.nodes = state.nodes?.filter((node) => node !== gone) ?? [];
    save();
  },
  'service ls': () => {
    for (const index of (state.proxies ?? []).keys()) say(String(index));
  },
  'service inspect': () =>
    say(render(option('--format'), { Spec: { Labels: state.proxies?.[Number(args.at(-1))] } })),
  image: () => {
    const name = args.at(-1) ?? '';
    if (args[1] !== 'inspect') say('sha256:same');
    else say(`mirror.example/other@sha256:0\n${name.replace(/:[^:/]+$/, '')}@sha256:${state.digest ?? 'a'}`);
  },
  login: () => writeFileSync(join(folder, 'login'), readFileSync(0)),
  pull: () => {},
};

const run = COMMANDS[command] ?? (() => fail(`the stand-in for docker does not implement: ${command}`));
run();
