import { appendFileSync, copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/**
 * Stands in for the AWS command line (see stand-ins.ts), for exactly the calls that aws/*.sh make. Parameters of Systems
 * Manager are files, which several machines may share; the rest is in `aws.json`. Any other call fails.
 */
interface AwsState {
  /** Names of parameters that this machine's role may not read. */
  denied?: string[];
  instances?: { id: string; state: string; role: string; lifecycle?: string }[];
  volumes?: { id: string; zone: string; instance?: string }[];
  images?: string[];
  /** Outputs of the stack; absent when no stack is named. */
  outputs?: Record<string, string>;
  /** Calls about Auto Scaling groups fail. */
  isThrottled?: boolean;
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

function refuse(code: string): never {
  process.stderr.write(`An error occurred (${code}) when calling ${command}\n`);
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
  const found = (state.volumes ?? []).filter(
    ({ zone, instance }) =>
      (!zones || zones.includes(zone)) &&
      (!holders || holders.includes(instance ?? '')) &&
      (!statuses || statuses.includes(instance === undefined ? 'available' : 'in-use')),
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

function describeInstances(): void {
  const states = filter('instance-state-name') ?? [];
  const found = (state.instances ?? []).filter((one) => states.includes(one.state));
  say(found.map(({ id }) => id).join('\t'));
}

/** Instances in the life-cycle state that the query filters by, or all. */
function describeGroups(): void {
  if (state.isThrottled) refuse('Throttling');
  const wantsLeaving = option('query').includes('Terminating:Wait');
  const leaving = (state.instances ?? []).filter(
    ({ lifecycle }) => !wantsLeaving || lifecycle === 'Terminating:Wait',
  );
  say(leaving.map(({ id }) => id).join('\t'));
}

function describeStacks(): void {
  if (!state.outputs) refuse('ValidationError');
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
  state.instances = [];
  save();
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
  'cloudformation delete-stack': () => {},
  'cloudformation wait': () => {},
  's3 cp': copyToBucket,
  's3 rm': () => {},
  'ssm describe-instance-information': () => say('Online'),
  'ssm send-command': () => say('command-1'),
  'ssm get-command-invocation': describeCommand,
  'autoscaling update-auto-scaling-group': updateGroup,
  'ec2 delete-volume': () => {},
  'ssm get-parameter': getParameter,
  'ssm put-parameter': putParameter,
  'ssm delete-parameter': () => rmSync(fileOf(option('name')), { force: true }),
  'ec2 describe-volumes': describeVolumes,
  'ec2 attach-volume': attachVolume,
  'ec2 create-volume': createVolume,
  'ec2 wait': () => {},
  'ec2 describe-instances': describeInstances,
  'ec2 modify-instance-attribute': () => {},
  'autoscaling describe-auto-scaling-groups': describeGroups,
  'autoscaling complete-lifecycle-action': () => {},
  'autoscaling record-lifecycle-action-heartbeat': () => {},
  'cloudwatch put-metric-data': () => writeFileSync(join(folder, 'metrics.json'), option('metric-data')),
  'ecr describe-images': () => {
    if (!state.images?.includes(option('image-ids').replace('imageTag=', '')))
      refuse('ImageNotFoundException');
  },
  'ecr get-login-password': () => say('registry-password'),
};

const run = COMMANDS[command];
if (!run) {
  process.stderr.write(`the stand-in for aws does not implement: ${command}\n`);
  process.exit(252);
}
run();
