import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { StartError } from '../errors.ts';
import { takeLock } from '../lock.mjs';
import { requirePrograms } from '../programs.ts';
import { BASE_IMAGE, importBase, makeBaseArchive } from './base-image.ts';
import { Engine } from './engine.ts';
import { CGROUP, FOLDERS } from './folders.ts';
import { makeSwitch, namespaces, plugIn, removeNetwork, setLink } from './network.ts';
import { type ClusterNode, nodesOf, numbered, type Role } from './topology.ts';

const DEPLOY_MS_MAX = 6 * 60_000;
const IMAGES_MS_MAX = 5 * 60_000;
const LOCK = '/run/turnout-cluster.lock';
const CGROUPS = '/sys/fs/cgroup';
/** How many nodes are prepared at the same time: loading images is work for the disk. */
const NODES_AT_ONCE_MAX = 3;

/** What images.sh builds from, when there is no registry. */
const BASES = {
  NODE_IMAGE: BASE_IMAGE,
  REDIS_IMAGE: BASE_IMAGE,
  HAPROXY_IMAGE: BASE_IMAGE,
  POSTGRES_IMAGE: BASE_IMAGE,
};

export interface ClusterOptions {
  readonly frontends: number;
  readonly workers: number;
  /** Hears what is going on, a line each. */
  readonly progress: (line: string) => void;
  /** More settings for deploy.sh and verify.sh, as an operator would export them. */
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * A Swarm of several nodes on this machine: every node is a Docker engine in namespaces of its own, plugged into a bridge.
 * The Swarm is made, the stack deployed and the vote verified by the scripts of `stack/swarm`, which an operator runs.
 */
export class Cluster {
  readonly #options: ClusterOptions;
  readonly #engines = new Map<string, Engine>();
  #release: (() => void) | undefined;

  constructor(options: ClusterOptions) {
    this.#options = options;
  }

  /** Makes the machines, the Swarm and the stack; returns when a vote has been counted. */
  async open(): Promise<void> {
    const nodes = nodesOf(this.#options);
    const { progress } = this.#options;
    await requirePrograms(progress);
    this.#release = lockLabs();
    await removeLeftovers();
    await mkdir(FOLDERS.data, { recursive: true });
    await mkdir(FOLDERS.run, { recursive: true });

    await makeSwitch();
    await this.#boot(nodes[0] as ClusterNode);
    await this.manager.script('init.sh', ['--advertise', this.manager.node.address]);
    progress('Making a base image from Debian’s packages');
    const archive = await makeBaseArchive();
    await importBase(this.manager.dockerHost, archive);
    progress('Building the images');
    await this.manager.script('images.sh', ['build'], { env: BASES, msMax: IMAGES_MS_MAX });
    await this.manager.script('images.sh', ['save', this.#images], { msMax: IMAGES_MS_MAX });
    progress(`Starting ${nodes.length - 1} more engines, which join`);
    await inTurn(nodes.slice(1), (node) => this.#addNode(node));
    await this.manager.script('label.sh');
    await this.manager.script('secrets.sh', [], { env: this.settings });
    progress('Deploying the stack');
    await this.deploy();
    progress('Voting');
    progress(await this.manager.script('verify.sh', [], { env: this.settings, msMax: DEPLOY_MS_MAX }));
  }

  get manager(): Engine {
    return this.engine('manager');
  }

  /** Where the proxy answers. */
  get proxyAddress(): string {
    return this.engine('interlock').node.address;
  }

  /** @throws StartError when there is no such node */
  engine(name: string): Engine {
    const engine = this.#engines.get(name);
    if (!engine) throw new StartError(`the cluster has no node ${name}`);
    return engine;
  }

  get allEngines(): Engine[] {
    return [...this.#engines.values()];
  }

  engines(role: Role): Engine[] {
    return this.allEngines.filter(({ node }) => node.role === role);
  }

  /** Deploys the stack, anew or changed; waits until everything runs. */
  async deploy(settings: Readonly<Record<string, string>> = {}): Promise<string> {
    const env = { ...this.settings, ...settings };
    return this.manager.script('deploy.sh', [], { env, msMax: DEPLOY_MS_MAX });
  }

  /** Adds a machine, which joins by itself and gets its role as any other. */
  async addNode(role: 'frontend' | 'worker'): Promise<Engine> {
    const node = numbered(role, this.engines(role).length + 1);
    await this.#addNode(node);
    await this.manager.script('label.sh');
    return this.engine(node.name);
  }

  /** Starts a machine that belongs to no Swarm, and that the cluster does not count as one of its own; it goes with the cluster. */
  async bootAlone(node: ClusterNode): Promise<Engine> {
    const engine = new Engine(node, FOLDERS);
    await plugIn(node);
    await engine.start();
    return engine;
  }

  /** Pulls a node's cable, or puts it back. */
  setLink = setLink;

  /** Takes everything away: processes, namespaces, mounts, images, volumes. */
  async close(): Promise<void> {
    if (!this.#release) return;
    await removeLeftovers();
    this.#engines.clear();
    this.#release();
    this.#release = undefined;
  }

  /** What an operator of this cluster exports before running a script. */
  get settings(): NodeJS.ProcessEnv {
    const { manager, workers, settings = {} } = { manager: this.manager, ...this.#options };
    return {
      DOCKER_SOCKET: manager.socket,
      TURNOUT_CREDENTIALS: this.credentials,
      WORKERS: String(workers),
      ...settings,
    };
  }

  /** The file of passwords that secrets.sh keeps. */
  readonly credentials = join(FOLDERS.data, 'credentials');
  readonly #images = join(FOLDERS.data, 'images.tar');

  /** @param images an engine that has them already */
  async #boot(node: ClusterNode, images?: Engine): Promise<void> {
    const engine = new Engine(node, FOLDERS);
    this.#engines.set(node.name, engine);
    await plugIn(node);
    if (images) await engine.copyImages(images);
    await engine.start();
  }

  /** The store gets its images as an operator would carry them, so that this way is seen to work; the others share them. */
  async #addNode(node: ClusterNode): Promise<void> {
    const carries = node.role === 'store';
    await this.#boot(node, carries ? undefined : this.manager);
    const engine = this.engine(node.name);
    await engine.script('install-docker.sh');
    if (carries) await engine.script('images.sh', ['load', this.#images], { msMax: IMAGES_MS_MAX });
    const { address: manager } = this.manager.node;
    const input = await this.manager.script('token.sh', ['worker']);
    await engine.script('join.sh', ['--manager', manager, '--advertise', node.address], { input });
  }
}

/** @returns gives the lock back */
function lockLabs(): () => void {
  const lock = takeLock(LOCK);
  if (!lock.taken) throw new StartError(`another cluster is open (pid ${lock.pid}); there can be only one`);
  return lock.release;
}

/**
 * Removes whatever a cluster that crashed has left on this machine.
 *
 * @throws StartError when a cluster is open
 */
export async function clean(): Promise<void> {
  const release = lockLabs();
  try {
    await removeLeftovers();
  } finally {
    release();
  }
}

async function removeLeftovers(): Promise<void> {
  for (const name of runningNodes()) {
    await new Engine({ name, role: 'manager', address: '' }, FOLDERS).kill();
  }
  if (namespaces().length > 0) await removeNetwork();
  await rm(FOLDERS.run, { recursive: true, force: true });
  await rm(FOLDERS.data, { recursive: true, force: true });
  for (const hierarchy of readdirSync(CGROUPS)) await removeCgroup(join(CGROUPS, hierarchy, CGROUP));
  await removeCgroup(join(CGROUPS, CGROUP));
}

/** Nodes that had been started, by the files that hold their pids. */
function runningNodes(): string[] {
  if (!existsSync(FOLDERS.run)) return [];
  return readdirSync(FOLDERS.run)
    .filter((name) => name.endsWith('.pid'))
    .map((name) => name.slice(0, -'.pid'.length));
}

/** Control groups are folders that hold only folders of their own kind; the files in them cannot be removed. */
async function removeCgroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeCgroup(join(path, entry.name));
  }
  // A process that has just ended may be in its group for a moment longer; an empty group harms nobody.
  await rmdir(path).catch(() => {});
}

async function inTurn<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...items];
  const takeNext = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: NODES_AT_ONCE_MAX }, takeNext));
}
