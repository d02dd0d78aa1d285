import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StartError } from '../errors.ts';
import { endOfFile, run } from '../exec.ts';
import { ROOT } from '../root.ts';
import { CGROUP, type Folders, namespacePath } from './folders.ts';
import type { ClusterNode } from './topology.ts';

const START_MS_MAX = 60_000;
const STOP_MS_MAX = 60_000;
const COMMAND_MS_MAX = 60_000;
const UPDATE_MS_MAX = 4 * 60_000;
const POLL_MS = 100;
const SCRIPTS = join(ROOT, 'stack/swarm');

/** Runs in the new namespaces: sets the host name and execs the engine under an init that reaps orphans. */
const BOOT = 'hostname "$1"; shift; exec docker-init -- dockerd "$@"';

/**
 * The Docker engine of one node, with host name, network, processes and mounts in namespaces of its own.
 *
 * Killing the first process of the pid namespace kills the whole node at once, containers included, like a power failure.
 */
export class Engine {
  readonly node: ClusterNode;
  readonly #data: string;
  readonly #run: string;
  readonly #logFile: string;

  constructor(node: ClusterNode, folders: Folders) {
    this.node = node;
    this.#data = join(folders.data, node.name);
    this.#run = join(folders.run, node.name);
    this.#logFile = join(folders.data, `${node.name}.log`);
  }

  /** The value of `DOCKER_HOST` for this engine. */
  get dockerHost(): string {
    return `unix://${this.socket}`;
  }

  get socket(): string {
    return join(this.#run, 'docker.sock');
  }

  /**
   * Copies the images of another engine before the first start. Layers are immutable, so they are hard-linked, which is
   * many times faster than `images.sh load`.
   */
  async copyImages(from: Engine): Promise<void> {
    const [source, target] = [join(from.#data, 'docker'), join(this.#data, 'docker')];
    await mkdir(target, { recursive: true, mode: 0o710 });
    for (const args of [
      ['-a', join(source, 'image'), target],
      ['-al', join(source, 'overlay2'), target],
    ]) {
      await run({ command: 'cp', args }, { what: 'copying images', msMax: COMMAND_MS_MAX, env: process.env });
    }
  }

  /**
   * Starts the engine on its data folder and waits until it responds.
   *
   * @throws StartError with the end of its log
   */
  async start(): Promise<void> {
    // A machine boots with an empty /run.
    await rm(this.#run, { recursive: true, force: true });
    await mkdir(this.#run, { recursive: true });
    await mkdir(this.#data, { recursive: true });
    const log = openSync(this.#logFile, 'a');
    const child = spawn('nsenter', this.#arguments(), { detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    child.on('error', () => {});
    child.unref();
    if (child.pid !== undefined) await writeFile(`${this.#run}.pid`, String(child.pid));
    await this.#untilResponsive();
  }

  /** Returns the arguments of `nsenter` that create the namespaces and run the engine in them. */
  #arguments(): string[] {
    return [
      `--net=${namespacePath(this.node.name)}`,
      ...['unshare', '--uts', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'],
      ...['sh', '-c', BOOT, 'sh', this.node.name],
      ...['--data-root', join(this.#data, 'docker'), '--exec-root', join(this.#run, 'exec')],
      ...['--pidfile', join(this.#run, 'pid'), '--host', this.dockerHost],
      ...['--cgroup-parent', `/${CGROUP}/${this.node.name}`, '--label', `role=${this.node.role}`],
    ];
  }

  async #untilResponsive(): Promise<void> {
    const deadline = Date.now() + START_MS_MAX;
    while (!(await this.isResponsive())) {
      if (Date.now() > deadline || !this.isRunning) {
        const details = endOfFile(this.#logFile);
        throw new StartError(`the Docker engine of ${this.node.name} does not start`, details);
      }
      await sleep(POLL_MS);
    }
  }

  /** Whether the engine responds to its API. */
  async isResponsive(): Promise<boolean> {
    try {
      await this.docker('version', '--format', '{{.Server.Version}}');
      return true;
    } catch {
      return false;
    }
  }

  get isRunning(): boolean {
    const pid = this.#pid;
    return pid !== undefined && isEngine(pid, this.node.name);
  }

  /** Stops the engine and its containers gracefully, as a node that shuts down. */
  async stop(): Promise<void> {
    const pid = this.#pid;
    if (pid === undefined || !this.isRunning) return;
    for (const child of childrenOf(pid)) process.kill(child, 'SIGTERM');
    const deadline = Date.now() + STOP_MS_MAX;
    while (this.isRunning && Date.now() < deadline) await sleep(POLL_MS);
    await this.kill();
  }

  /** Kills the engine and its containers at once, like a power failure. */
  async kill(): Promise<void> {
    const pid = this.#pid;
    if (pid === undefined || !this.isRunning) return;
    const children = childrenOf(pid);
    process.kill(pid, 'SIGKILL');
    // The kernel kills the rest of the pid namespace together with its first process.
    const deadline = Date.now() + STOP_MS_MAX;
    for (const child of children) {
      while (isAlive(child) && Date.now() < deadline) await sleep(POLL_MS);
    }
  }

  get #pid(): number | undefined {
    try {
      return Number(readFileSync(`${this.#run}.pid`, 'utf8'));
    } catch {
      return undefined;
    }
  }

  /** Runs a Docker command and returns its output without trailing white space. */
  async docker(...args: string[]): Promise<string> {
    return this.#execute('docker', args, `docker ${args.slice(0, 3).join(' ')}`);
  }

  /** Like `docker`, with a deadline for commands that wait for tasks, such as the update of a service. */
  async dockerUpdate(...args: string[]): Promise<string> {
    return this.#execute('docker', args, `docker ${args.slice(0, 3).join(' ')}`, { msMax: UPDATE_MS_MAX });
  }

  /** Creates a secret of the Swarm. The content goes through standard input, because `ps` shows arguments. */
  async createSecret(name: string, content: string): Promise<void> {
    await this.#execute('docker', ['secret', 'create', name, '-'], `docker secret create ${name}`, {
      input: content,
    });
  }

  /**
   * Runs a script of `stack/swarm` on this node.
   *
   * @param env settings of the script; it also inherits the environment, with DOCKER_HOST set to this engine
   */
  async script(
    name: string,
    args: readonly string[] = [],
    { env = {}, input, msMax }: ScriptOptions = {},
  ): Promise<string> {
    const command = [`--net=${namespacePath(this.node.name)}`, 'bash', join(SCRIPTS, name), ...args];
    return this.#execute('nsenter', command, `${name} on ${this.node.name}`, { env, input, msMax });
  }

  async #execute(
    command: string,
    args: readonly string[],
    what: string,
    { env = {}, input, msMax = COMMAND_MS_MAX }: ScriptOptions = {},
  ): Promise<string> {
    const output = await run(
      { command, args },
      {
        what,
        msMax,
        ...(input !== undefined && { input }),
        // Debian's docker.io has the legacy builder only; BuildKit needs a plugin.
        env: { ...process.env, DOCKER_BUILDKIT: '0', ...env, DOCKER_HOST: this.dockerHost },
      },
    );
    return output.trimEnd();
  }
}

interface ScriptOptions {
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly input?: string | undefined;
  readonly msMax?: number | undefined;
}

/** Whether the process is the engine of a node, not a later process with the same pid. */
function isEngine(pid: number, node: string): boolean {
  try {
    const state = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0];
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return state !== 'Z' && /^(nsenter|unshare)\0/.test(commandLine) && commandLine.includes(`\0${node}\0`);
  } catch {
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}
