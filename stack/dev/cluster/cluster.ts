import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { StartError } from '../errors.ts';
import { takeLock } from '../lock.mjs';
import { requirePrograms } from '../programs.ts';
import { BASE_IMAGE, buildBaseArchive, importBase } from './base-image.ts';
import { Engine } from './engine.ts';
import { CGROUP, FOLDERS } from './folders.ts';
import { connectNode, createSwitch, namespaces, removeNetwork, setLink } from './network.ts';
import { type ClusterNode, nodesOf, numbered, type Role } from './topology.ts';

const DEPLOY_MS_MAX = 6 * 60_000;
const IMAGES_MS_MAX = 5 * 60_000;
const LOCK = '/run/turnout-cluster.lock';
const CGROUPS = '/sys/fs/cgroup';
/** Nodes that are prepared concurrently; loading images is bound by the disk. */
const NODE_CONCURRENCY = 3;

/** The base images of images.sh, which are in no registry. */
const BASE_IMAGES = {
  TURNOUT_PULL: 'no',
  NODE_IMAGE: BASE_IMAGE,
  REDIS_IMAGE: BASE_IMAGE,
  HAPROXY_IMAGE: BASE_IMAGE,
  POSTGRES_IMAGE: BASE_IMAGE,
};

export interface ClusterOptions {
  readonly frontends: number;
  readonly workers: number;
  /** Called with one line for each step. */
  readonly progress: (line: string) => void;
  /** Further settings for deploy.sh and verify.sh, as an operator exports them. */
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * A Docker Swarm of several nodes on this machine. Each node is a Docker engine in namespaces of its own, connected to a
 * bridge. The scripts of `stack/swarm`, the same that an operator runs, initialize the Swarm, deploy the stack and verify it.
 */
export class Cluster {
  readonly #options: ClusterOptions;
  readonly #engines = new Map<string, Engine>();
  #release: (() => void) | undefined;

  constructor(options: ClusterOptions) {
    this.#options = options;
  }

  /**
   * Starts the nodes, initializes the Swarm and deploys the stack; returns once a vote has been counted.
   *
   * @throws StartError when another cluster runs, or when a step fails
   */
  async open(): Promise<void> {
    const [manager, ...others] = nodesOf(this.#options) as [ClusterNode, ...ClusterNode[]];
    const { progress } = this.#options;
    await requirePrograms(progress);
    await this.#prepareHost();
    progress('Starting the manager');
    await this.#startManager(manager);
    progress('Building the base image from Debian packages');
    await importBase(this.manager.dockerHost, await buildBaseArchive());
    progress('Building the images');
    await this.#buildImages();
    progress(`Starting ${others.length} more nodes, which join the Swarm`);
    await forEachConcurrently(others, (node) => this.#addNode(node));
    await this.manager.script('label.sh');
    await this.manager.script('secrets.sh', [], { env: this.settings });
    progress('Deploying the stack');
    await this.deploy();
    progress('Casting a test vote');
    progress(await this.manager.script('verify.sh', [], { env: this.settings, msMax: DEPLOY_MS_MAX }));
  }

  /** Locks this machine for one cluster and removes what a crashed one left. */
  async #prepareHost(): Promise<void> {
    this.#release = lockCluster();
    await removeLeftovers();
    await mkdir(FOLDERS.data, { recursive: true });
    await mkdir(FOLDERS.run, { recursive: true });
    await createSwitch();
  }

  async #startManager(node: ClusterNode): Promise<void> {
    await this.#startNode(node);
    await this.manager.script('init.sh', ['--advertise', node.address]);
  }

  async #buildImages(): Promise<void> {
    await this.manager.script('images.sh', ['build'], { env: BASE_IMAGES, msMax: IMAGES_MS_MAX });
    await this.manager.script('images.sh', ['save', this.#images], { msMax: IMAGES_MS_MAX });
  }

  get manager(): Engine {
    return this.engine('manager');
  }

  /** The address of the proxy. */
  get proxyAddress(): string {
    return this.engine('interlock').node.address;
  }

  /** @throws StartError when there is no such node */
  engine(name: string): Engine {
    const engine = this.#engines.get(name);
    if (!engine) throw new StartError(`the cluster has no node ${name}`);
    return engine;
  }

  /** Returns the engines of all nodes, or of the nodes with one role. */
  engines(role?: Role): Engine[] {
    const engines = [...this.#engines.values()];
    return role === undefined ? engines : engines.filter(({ node }) => node.role === role);
  }

  /** Deploys or updates the stack, and waits until all tasks run. */
  async deploy(settings: Readonly<Record<string, string>> = {}): Promise<string> {
    const env = { ...this.settings, ...settings };
    return this.manager.script('deploy.sh', [], { env, msMax: DEPLOY_MS_MAX });
  }

  /** Starts another node, which joins the Swarm and is labelled with its role. */
  async addNode(role: 'frontend' | 'worker'): Promise<Engine> {
    const node = numbered(role, this.engines(role).length + 1);
    await this.#addNode(node);
    await this.manager.script('label.sh');
    return this.engine(node.name);
  }

  /** Starts a node outside the Swarm; `engines` does not list it, `close` removes it. */
  async startStandaloneNode(node: ClusterNode): Promise<Engine> {
    const engine = new Engine(node, FOLDERS);
    await connectNode(node);
    await engine.start();
    return engine;
  }

  /** Disconnects a node from the network, or reconnects it. */
  setLink = setLink;

  /** Removes everything: processes, namespaces, mounts, images, volumes. Idempotent. */
  async close(): Promise<void> {
    if (!this.#release) return;
    await removeLeftovers();
    this.#engines.clear();
    this.#release();
    this.#release = undefined;
  }

  /** The environment in which an operator of this cluster runs the scripts. */
  get settings(): NodeJS.ProcessEnv {
    const { workers, settings } = this.#options;
    return {
      DOCKER_SOCKET: this.manager.socket,
      TURNOUT_CREDENTIALS: this.credentials,
      WORKERS: String(workers),
      ...settings,
    };
  }

  /** The file in which secrets.sh keeps the passwords. */
  readonly credentials = join(FOLDERS.data, 'credentials');
  readonly #images = join(FOLDERS.data, 'images.tar');

  /** @param imageSource an engine whose images the node copies before its first start */
  async #startNode(node: ClusterNode, imageSource?: Engine): Promise<void> {
    const engine = new Engine(node, FOLDERS);
    this.#engines.set(node.name, engine);
    await connectNode(node);
    if (imageSource) await engine.copyImages(imageSource);
    await engine.start();
  }

  /** Starts a node that joins the Swarm. The store loads its images with images.sh, which tests that way; others copy. */
  async #addNode(node: ClusterNode): Promise<void> {
    const loadsImages = node.role === 'store';
    await this.#startNode(node, loadsImages ? undefined : this.manager);
    const engine = this.engine(node.name);
    await engine.script('install-docker.sh');
    if (loadsImages) await engine.script('images.sh', ['load', this.#images], { msMax: IMAGES_MS_MAX });
    const { address: manager } = this.manager.node;
    const input = await this.manager.script('token.sh', ['worker']);
    await engine.script('join.sh', ['--manager', manager, '--advertise', node.address], { input });
  }
}

/** Takes the lock of this machine's only cluster and returns a function that releases it. */
function lockCluster(): () => void {
  const lock = takeLock(LOCK);
  if (!lock.taken) {
    throw new StartError(`a cluster already runs on this machine (pid ${lock.pid}): stop it first`);
  }
  return lock.release;
}

/**
 * Removes what a crashed cluster left on this machine.
 *
 * @throws StartError when a cluster is running
 */
export async function clean(): Promise<void> {
  const release = lockCluster();
  try {
    await removeLeftovers();
  } finally {
    release();
  }
}

async function removeLeftovers(): Promise<void> {
  for (const name of startedNodes()) {
    await new Engine({ name, role: 'manager', address: '' }, FOLDERS).kill();
  }
  if (namespaces().length > 0) await removeNetwork();
  await rm(FOLDERS.run, { recursive: true, force: true });
  await rm(FOLDERS.data, { recursive: true, force: true });
  for (const hierarchy of readdirSync(CGROUPS)) await removeCgroup(join(CGROUPS, hierarchy, CGROUP));
  await removeCgroup(join(CGROUPS, CGROUP));
}

/** Returns the names of nodes that have a pid file. */
function startedNodes(): string[] {
  if (!existsSync(FOLDERS.run)) return [];
  return readdirSync(FOLDERS.run)
    .filter((name) => name.endsWith('.pid'))
    .map((name) => name.slice(0, -'.pid'.length));
}

/** Removes a control group and its children. The files in these folders are the kernel's and need no removal. */
async function removeCgroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeCgroup(join(path, entry.name));
  }
  // A process may stay in its group briefly after it exits; an empty group that remains is harmless.
  await rmdir(path).catch(() => {});
}

/** Runs `work` for each item, at most `NODE_CONCURRENCY` at a time. */
async function forEachConcurrently<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const drain = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: NODE_CONCURRENCY }, drain));
}
