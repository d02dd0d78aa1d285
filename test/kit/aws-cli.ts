import {
  appendFileSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';

/**
 * Stands in for the AWS command line (see stand-ins.ts), for exactly the calls that aws/*.sh make. Parameters of Systems
 * Manager are files, which several machines may share; the rest is in `aws.json`. Any other call fails.
 */
interface AwsState {
  /** Names of parameters that this machine's role may not read. */
  denied?: string[];
  instances?: { id: string; state: string; role?: string; lifecycle?: string }[];
  volumes?: { id: string; zone: string; instance?: string; size?: number }[];
  /** Parameters of the stack. */
  parameters?: Record<string, string>;
  images?: string[];
  /** Outputs of the stack; absent when no stack is named. */
  outputs?: Record<string, string>;
  /** Calls about Auto Scaling groups fail. */
  isThrottled?: boolean;
  /** Credentials have expired; the stack cannot be read. */
  isExpired?: boolean;
  /** Auto Scaling groups with an instance refresh. */
  refreshing?: string[];
  /** The next call of this command fails, as after Ctrl-C. */
  interrupted?: string;
  /** Status of Systems Manager's commands; default `Success`. */
  commandStatus?: string;
}

const folder = process.env['STAND_INS'] ?? '';
const stateFile = join(folder, 'aws.json');
const state = JSON.parse(readFileSync(stateFile, 'utf8')) as AwsState;
const args = process.argv.slice(2);
appendFileSync(join(folder, 'calls'), `aws ${args.join(' ').replaceAll('\n', ' ')}\n`);
const command = args.slice(0, 2).join(' ');
const option = (name: string): string => {
  const at = args.indexOf(`--${name}`);
  return at < 0 ? '' : (args[at + 1] ?? '');
};

function refuse(code: string, detail = ''): never {
  process.stderr.write(`An error occurred (${code}) when calling ${command}: ${detail}\n`);
  process.exit(254);
}

const save = (): void => writeFileSync(stateFile, JSON.stringify(state));
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const fileOf = (name: string): string => join(folder, 'parameters', encodeURIComponent(name));

/** The values of a filter, `Name=…,Values=a,b`. */
function filter(name: string): string[] | undefined {
  const found = args.find((arg) => arg.startsWith(`Name=${name},Values=`));
  return found?.slice(found.indexOf('Values=') + 7).split(',');
}

function getParameter(): void {
  const name = option('name');
  if (state.denied?.includes(basename(name))) refuse('AccessDeniedException');
  if (!existsSync(fileOf(name))) refuse('ParameterNotFound');
  say((JSON.parse(readFileSync(fileOf(name), 'utf8')) as { value: string }).value);
}

function putParameter(): void {
  const name = option('name');
  if (existsSync(fileOf(name)) && !args.includes('--overwrite')) refuse('ParameterAlreadyExists');
  const value = option('value').startsWith('file://')
    ? readFileSync(option('value').slice('file://'.length), 'utf8')
    : option('value');
  writeFileSync(fileOf(name), JSON.stringify({ type: option('type'), value }));
}

function describeVolumes(): void {
  const zones = filter('availability-zone');
  const holders = filter('attachment.instance-id');
  const statuses = filter('status');
  const sizeBelow = /Size<`(\d+)`/.exec(option('query'))?.[1];
  const found = (state.volumes ?? []).filter(
    ({ zone, instance, size = 20 }) =>
      (!zones || zones.includes(zone)) &&
      (!holders || holders.includes(instance ?? '')) &&
      (!statuses || statuses.includes(instance === undefined ? 'available' : 'in-use')) &&
      (sizeBelow === undefined || size < Number(sizeBelow)),
  );
  say(found.map(({ id }) => id).join('\t'));
}

function attachVolume(): void {
  const volume = state.volumes?.find(({ id }) => id === option('volume-id'));
  if (!volume || volume.instance !== undefined) refuse('IncorrectState');
  volume.instance = option('instance-id');
  save();
  // EC2 keeps the data of a detached volume.
  const device = join(
    process.env['TURNOUT_HOST_ROOT'] ?? '',
    'dev/disk/by-id',
    `nvme-Amazon_Elastic_Block_Store_${volume.id.replace('-', '')}`,
  );
  if (!existsSync(device)) writeFileSync(device, '');
}

function createVolume(): void {
  const id = `vol-${String(state.volumes?.length ?? 0).padStart(4, '0')}`;
  state.volumes = [...(state.volumes ?? []), { id, zone: option('availability-zone') }];
  save();
  say(id);
}

function modifyVolume(): void {
  const volume = state.volumes?.find(({ id }) => id === option('volume-id'));
  if (!volume) refuse('InvalidVolume.NotFound');
  volume.size = Number(option('size'));
  save();
}

function describeInstances(): void {
  const states = filter('instance-state-name') ?? [];
  const roles = filter('tag:turnout:role');
  const found = (state.instances ?? []).filter(
    (one) => states.includes(one.state) && (!roles || roles.includes(one.role ?? '')),
  );
  say(found.map(({ id }) => id).join('\t'));
}

/** Instances in the life-cycle state that the query filters by, or all. */
function describeGroups(): void {
  if (state.isThrottled) refuse('Throttling');
  if (option('query').endsWith('.AutoScalingGroupName')) {
    if (state.outputs) say('turnout-frontend');
    return;
  }
  const wanted = /LifecycleState=='([\w:]+)'/.exec(option('query'))?.[1];
  const group = option('auto-scaling-group-names');
  const found = (state.instances ?? []).filter(
    ({ role = 'frontend', lifecycle }) =>
      group.endsWith(`-${role}`) && (wanted === undefined || lifecycle === wanted),
  );
  say(found.map(({ id }) => id).join('\t'));
}

function describeStacks(): void {
  if (state.isExpired) refuse('ExpiredToken', 'The security token included in the request is expired');
  if (!state.outputs) refuse('ValidationError', `Stack with id ${option('stack-name')} does not exist`);
  const parameter = option('query').match(/ParameterKey=='(\w+)'/)?.[1];
  if (parameter) {
    say(state.parameters?.[parameter] ?? 'None');
    return;
  }
  const name = option('query').match(/OutputKey=='(\w+)'/)?.[1];
  if (name) say(state.outputs[name] ?? 'None');
  else for (const [key, value] of Object.entries(state.outputs)) say(`${key}\t${value}`);
}

function describeCommand(): void {
  if (option('query') === 'Status') say(state.commandStatus ?? 'Success');
  else say(option('query') === 'StandardOutputContent' ? 'done there' : 'said there');
}

/** A group set to no machines terminates all of its own. */
function updateGroup(): void {
  state.instances = (state.instances ?? []).filter(({ role }) => role !== 'frontend');
  save();
}

function refresh(): void {
  const group = option('auto-scaling-group-name');
  if (state.refreshing?.includes(group)) refuse('InstanceRefreshInProgress');
  state.refreshing = [...(state.refreshing ?? []), group];
  save();
}

function deleteStack(): void {
  delete state.outputs;
  save();
}

function describeParameters(): void {
  const names = readdirSync(join(folder, 'parameters')).map((name) => decodeURIComponent(name));
  say(names.join('\t'));
}

/** Keeps uploaded files for assertions. */
function copyToBucket(): void {
  const [, , from = ''] = args.filter((arg) => !arg.startsWith('--'));
  copyFileSync(from, join(folder, 'uploaded'));
}

const COMMANDS: Readonly<Record<string, () => void>> = {
  'sts get-caller-identity': () => say('123456789012'),
  'cloudformation describe-stacks': describeStacks,
  'cloudformation deploy': () => {},
  'cloudformation delete-stack': deleteStack,
  'cloudformation wait': () => {},
  's3 cp': copyToBucket,
  's3 rm': () => {},
  's3api head-bucket': () => {
    if (!state.outputs?.['Bucket']) refuse('404', 'Not Found');
  },
  'ssm describe-parameters': describeParameters,
  'ssm describe-instance-information': () => say('Online'),
  'ssm send-command': () => say('command-1'),
  'ssm get-command-invocation': describeCommand,
  'autoscaling update-auto-scaling-group': updateGroup,
  'ec2 delete-volume': () => {},
  'ssm get-parameter': getParameter,
  'ssm put-parameter': putParameter,
  'ssm delete-parameter': () => rmSync(fileOf(option('name')), { force: true }),
  'ec2 describe-volumes': describeVolumes,
  'ec2 modify-volume': modifyVolume,
  'ec2 describe-volumes-modifications': () => {},
  'ec2 attach-volume': attachVolume,
  'ec2 create-volume': createVolume,
  'ec2 wait': () => {},
  'ec2 describe-instances': describeInstances,
  'ec2 modify-instance-attribute': () => {},
  'autoscaling describe-auto-scaling-groups': describeGroups,
  'autoscaling start-instance-refresh': refresh,
  'autoscaling complete-lifecycle-action': () => {},
  'autoscaling record-lifecycle-action-heartbeat': () => {},
  'cloudwatch put-metric-data': () => writeFileSync(join(folder, 'metrics.json'), option('metric-data')),
  'ecr describe-images': () => {
    if (!state.images?.includes(option('image-ids').replace('imageTag=', '')))
      refuse('ImageNotFoundException');
  },
  'ecr get-login-password': () => say('registry-password'),
};

if (state.interrupted === command) {
  delete state.interrupted;
  save();
  process.exit(130);
}
const run = COMMANDS[command];
if (!run) {
  process.stderr.write(`the stand-in for aws does not implement: ${command}\n`);
  process.exit(252);
}
run();
