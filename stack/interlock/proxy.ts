import { mkdir, open, readdir, readFile, readlink, rename, rm, symlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDeadline } from '#runtime/deadline.ts';
import { linksOf, renderRoutes } from './haproxy.ts';
import type { Model } from './model.ts';
import { carryServers } from './state.ts';

const COMMAND_MS_MAX = 5_000;
/** HAProxy reads certificates and configuration anew; thousands of servers take a second. */
const RELOAD_MS_MAX = 10_000;
const RELOAD_LOOK_INTERVAL_MS = 20;
/** A master that answers for so long and has not begun is another one, which knows nothing of our command. */
const RELOAD_BEGIN_MS_MAX = 2_000;
/** HAProxy complains about a file that is missing. This one has the version of the format and nothing else. */
const EMPTY_STATE = '1\n';

/** The proxy's master process does not answer: it is not running, or cannot start. */
export class ProxyAway extends Error {
  override readonly name = 'ProxyAway';
}

/** What HAProxy's master says of itself. */
interface MasterState {
  readonly reloads: number;
  /** Of those, how many in a row failed last. */
  readonly failures: number;
  /** The worker of the current configuration; the older ones only finish. */
  readonly worker?: number;
}

/**
 * The proxy, as seen from the volume that it shares with us: the configuration that it reads, and the socket of its
 * master process.
 *
 *   conf.d/routes.cfg    what HAProxy reads when it starts or reloads
 *   good/routes.cfg      the last one that it took
 *   tls/                 links to certificates and keys
 *   servers.state        what the next worker learns from this one; empty but during a reload
 *
 * Between writing and the proxy's verdict the first two differ; whoever starts then goes back to the good one.
 */
export class HaProxy {
  readonly #folder: string;
  #reloadsSeen = 0;
  #hasRestarted = false;

  /** @param folder the volume; it must have the same path here and there */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Whether the proxy has been started anew since this was asked last, as far as it has been looked at. Then it may have
   * other secrets than before, and take what it refused.
   */
  takeRestart(): boolean {
    const hasRestarted = this.#hasRestarted;
    this.#hasRestarted = false;
    return hasRestarted;
  }

  /** The configuration that the proxy took last, in this life of ours or an earlier one; `''` when there is none. */
  async lastGood(): Promise<string> {
    return (await this.#read('good/routes.cfg')) ?? '';
  }

  /** What was given to `apply` as a note when the proxy took its configuration last. */
  async lastNote(): Promise<string | undefined> {
    return this.#read('good/note.json');
  }

  /**
   * Gives the proxy new routes without dropping a connection. If it refuses them, the old worker goes on as before and the
   * last good routes are back on the disk; call `settle` when there is nothing more to try.
   *
   * @param note kept beside the configuration, for `lastNote`
   * @returns whether it took them
   * @throws ProxyAway when the master does not answer
   */
  async apply(model: Model, note: string): Promise<boolean> {
    const before = await this.#masterState();
    await this.#makeLinks(model);
    if (before.worker !== undefined) {
      const dump = await this.#command(`@!${before.worker} show servers state`);
      await this.#write('servers.state', carryServers(dump, model.sites));
    }
    const text = renderRoutes(model);
    let isTaken = false;
    try {
      await this.#write('conf.d/routes.cfg', text);
      isTaken = await this.#reload(before);
      if (!isTaken) return false;
      await this.#write('good/routes.cfg', text);
      await this.#write('good/note.json', note);
      await this.#removeLinks(model);
      return true;
    } finally {
      if (!isTaken) await this.#write('conf.d/routes.cfg', await this.lastGood());
      // A proxy that starts later must not believe it: by then the addresses may belong to others.
      await this.#write('servers.state', EMPTY_STATE);
    }
  }

  /**
   * Makes sure that what is on the disk is what the proxy took last, and that the last thing it read is that: a master
   * whose reload failed only watches the old worker until it is told to reload again.
   *
   * @throws ProxyAway when the master does not answer; the disk is right then all the same
   */
  async settle(): Promise<void> {
    const good = await this.lastGood();
    if ((await this.#read('conf.d/routes.cfg')) !== good) await this.#write('conf.d/routes.cfg', good);
    const state = await this.#masterState();
    if (state.failures > 0) await this.#reload(state);
  }

  /** Takes all routes away, the good ones too: a proxy that cannot start with them starts without, and can be asked. */
  async clear(): Promise<void> {
    await this.#write('good/routes.cfg', '');
    await this.#write('conf.d/routes.cfg', '');
  }

  async #reload(before: MasterState): Promise<boolean> {
    await this.#command('reload');
    const beganAt = performance.now();
    for (;;) {
      // The master does not answer while it reads.
      const now = await this.#masterState().catch(() => undefined);
      if (now && now.reloads > before.reloads) return now.failures === 0 && now.worker !== undefined;
      const ms = performance.now() - beganAt;
      if (now && ms > RELOAD_BEGIN_MS_MAX)
        throw new ProxyAway('the proxy has restarted instead of reloading');
      if (ms > RELOAD_MS_MAX) throw new ProxyAway(`the proxy has not reloaded within ${RELOAD_MS_MAX} ms`);
      await sleep(RELOAD_LOOK_INTERVAL_MS);
    }
  }

  async #masterState(): Promise<MasterState> {
    const answer = await this.#command('show proc');
    const master = /^\d+\s+master\s+(\d+)\s+\[failed: (\d+)\]/m.exec(answer);
    if (!master) throw new ProxyAway('the answer of the master cannot be read');
    const worker = /^(\d+)\s+worker\s+0\s/m.exec(answer)?.[1];
    const reloads = Number(master[1]);
    // A master counts its reloads from 0.
    if (reloads < this.#reloadsSeen) this.#hasRestarted = true;
    this.#reloadsSeen = reloads;
    return {
      reloads,
      failures: Number(master[2]),
      ...(worker !== undefined && { worker: Number(worker) }),
    };
  }

  async #command(text: string): Promise<string> {
    const socket = connect(this.#path('master.sock'));
    const answer = new Promise<string>((resolve, reject) => {
      let received = '';
      socket.setEncoding('utf8');
      socket.on('data', (data) => {
        received += data;
      });
      socket.on('error', reject);
      socket.on('close', () => resolve(received));
    });
    socket.end(`${text}\n`);
    try {
      return await withDeadline(answer, COMMAND_MS_MAX, 'the answer of the proxy');
    } catch (error) {
      throw new ProxyAway(`the proxy does not answer: ${(error as Error).message}`);
    } finally {
      socket.destroy();
    }
  }

  /** A link never changes what it leads to, so the links of the running configuration stay what they were. */
  async #makeLinks({ certificates }: Model): Promise<void> {
    const folder = this.#path('tls');
    await mkdir(folder, { recursive: true });
    for (const [name, target] of certificates.flatMap((certificate) =>
      Object.entries(linksOf(certificate).links),
    )) {
      const path = join(folder, name);
      if ((await readlink(path).catch(ignoreMissing)) === target) continue;
      await rm(path, { force: true });
      await symlink(target, path);
    }
  }

  async #removeLinks({ certificates }: Model): Promise<void> {
    const wanted = new Set(certificates.flatMap((certificate) => Object.keys(linksOf(certificate).links)));
    for (const name of await readdir(this.#path('tls'))) {
      if (!wanted.has(name)) await rm(this.#path(`tls/${name}`), { force: true });
    }
  }

  #read(name: string): Promise<string | undefined> {
    return readFile(this.#path(name), 'utf8').catch(ignoreMissing);
  }

  /** The proxy sees all of the new file or all of the old one. HAProxy reads only names that end in `.cfg`. */
  async #write(name: string, text: string): Promise<void> {
    const path = this.#path(name);
    await mkdir(dirname(path), { recursive: true });
    const file = await open(`${path}.new`, 'w', 0o644);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'EINVAL') throw error;
  return undefined;
}
