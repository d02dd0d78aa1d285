import { mkdir, open, readdir, readFile, readlink, rename, rm, symlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDeadline } from '#runtime/deadline.ts';
import type { HeldCertificate } from './certificates.ts';
import { linksOf, renderRoutes } from './haproxy.ts';
import type { Model, Version } from './model.ts';
import { carryServers } from './state.ts';

const COMMAND_MS_MAX = 5_000;
/** A reload reads certificates and configuration again; with thousands of servers it takes a second. */
const RELOAD_MS_MAX = 10_000;
const RELOAD_LOOK_INTERVAL_MS = 20;
/** If a responsive master has not started the reload by then, it is a new one that never got the command. */
const RELOAD_BEGIN_MS_MAX = 2_000;
/** HAProxy warns about a missing file. This one holds only the version of the format. */
const EMPTY_STATE = '1\n';

/** The proxy's master process does not respond: it is not running, or cannot start. */
export class ProxyDownError extends Error {
  override readonly name = 'ProxyDownError';
}

/** State of HAProxy's master process. */
interface MasterState {
  readonly reloads: number;
  /** Number of failed reloads since the last successful one. */
  readonly failures: number;
  readonly version: Version;
  /** The worker with the current configuration; older ones only finish their connections. */
  readonly worker?: number;
}

/**
 * The proxy, through the volume it shares with the controller: its configuration, and the socket of its master process.
 *
 *   conf.d/routes.cfg    what HAProxy reads when it starts or reloads
 *   good/routes.cfg      the last one it accepted
 *   tls/                 links to certificates and keys
 *   certificates/        the controller's own certificates, <name>.pem; a volume in memory
 *   servers.state        handed from the old worker to the new one; empty except during a reload
 *
 * The first two differ between a write and the proxy's verdict. A controller that starts then restores the good one.
 */
export class HaProxy {
  readonly #folder: string;
  #reloadsSeen = 0;
  #restartSeen = false;

  /** @param folder the volume, under the same path in both containers */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Returns whether a restart of the proxy was seen since the last call. After one it may have other secrets and accept what
   * it rejected before.
   */
  hasRestarted(): boolean {
    const seen = this.#restartSeen;
    this.#restartSeen = false;
    return seen;
  }

  /** Returns the version of the running proxy. @throws ProxyDownError when the master does not respond */
  async version(): Promise<Version> {
    return (await this.#masterState()).version;
  }

  /** Returns the configuration that the proxy accepted last, also from an earlier controller; `''` if there is none. */
  async lastGood(): Promise<string> {
    return (await this.#read('good/routes.cfg')) ?? '';
  }

  /** Returns the note of the `apply` call that the proxy accepted last. */
  async lastNote(): Promise<string | undefined> {
    return this.#read('good/note.json');
  }

  /** Returns the file of a certificate of the controller. */
  certificateFile(name: string): string {
    return this.#path(`certificates/${name}.pem`);
  }

  /**
   * Writes the certificates that the disk lacks, so that a proxy can start with routes that use them, and removes those that
   * are neither held nor used by the last good routes. Does not need the proxy.
   */
  async place(held: ReadonlyMap<string, HeldCertificate>): Promise<void> {
    for (const [name, { pem }] of held) {
      if ((await this.#read(`certificates/${name}.pem`)) === undefined) await this.#writeKey(name, pem);
    }
    const good = await this.lastGood();
    for (const file of await readdir(this.#path('certificates')).catch(() => [])) {
      const name = file.replace(/\.pem$/, '');
      if (held.has(name) || good.includes(this.#linkOf(name))) continue;
      await rm(this.#path(`certificates/${file}`), { force: true });
    }
  }

  /**
   * Replaces the certificates that have changed, in the running proxy and on disk. Connections go on.
   *
   * @returns by name, what was replaced (`undefined`), or why the proxy keeps the previous certificate
   * @throws ProxyDownError when the master does not respond
   */
  async renew(held: ReadonlyMap<string, HeldCertificate>): Promise<ReadonlyMap<string, string | undefined>> {
    const outcomes = new Map<string, string | undefined>();
    const { worker } = await this.#masterState();
    for (const [name, certificate] of held) {
      const { pem, fingerprint } = certificate;
      const isOnDisk = (await this.#read(`certificates/${name}.pem`)) === pem;
      const crt = this.#path(`tls/${this.#linkOf(name)}`);
      const shown = worker === undefined ? '' : await this.#command(`@!${worker} show ssl cert ${crt}`);
      const loaded = /^SHA1 FingerPrint: ([0-9A-F]{40})$/m.exec(shown)?.[1];
      if (loaded === undefined) {
        // No route uses it. The reload of the first one will check it.
        if (!isOnDisk) await this.#writeKey(name, pem);
        continue;
      }
      if (isOnDisk && loaded === fingerprint) continue;
      const rejection = await this.#replace(`@!${worker}`, crt, pem);
      // On disk after the proxy's approval only, because the next reload reads it.
      if (rejection === undefined) await this.#writeKey(name, pem);
      outcomes.set(name, rejection);
    }
    return outcomes;
  }

  /** Returns why the worker keeps its certificate, `undefined` if it has taken the new one. */
  async #replace(worker: string, crt: string, pem: string): Promise<string | undefined> {
    const set = await this.#command(`${worker} set ssl cert ${crt} <<\n${pem}`);
    const answer = set.includes('Transaction')
      ? await this.#command(`${worker} commit ssl cert ${crt}`)
      : set;
    if (answer.includes('Success!')) return undefined;
    await this.#command(`${worker} abort ssl cert ${crt}`);
    return answer.trim().split('\n')[0] || 'no answer';
  }

  /**
   * Loads new routes without dropping a connection. If the proxy rejects them, the old worker continues and the last good
   * routes are restored on disk; call `settle` after the last attempt.
   *
   * @param note stored beside the configuration, for `lastNote`
   * @returns whether the proxy accepted them
   * @throws ProxyDownError when the master does not respond
   */
  async apply(model: Model, note: string): Promise<boolean> {
    const before = await this.#masterState();
    await this.#makeLinks(model);
    if (before.worker !== undefined) {
      const dump = await this.#command(`@!${before.worker} show servers state`);
      await this.#write('servers.state', carryServers(dump, model.sites));
    }
    const text = renderRoutes(model);
    let isAccepted = false;
    try {
      await this.#write('conf.d/routes.cfg', text);
      isAccepted = await this.#reload(before);
      if (!isAccepted) return false;
      await this.#write('good/routes.cfg', text);
      await this.#write('good/note.json', note);
      await this.#removeLinks(model);
      return true;
    } finally {
      if (!isAccepted) await this.#write('conf.d/routes.cfg', await this.lastGood());
      // A proxy that starts later must not use it: the addresses may belong to other tasks by then.
      await this.#write('servers.state', EMPTY_STATE);
    }
  }

  /**
   * Restores the last good routes on disk and makes the proxy load them: after a failed reload the master only supervises the
   * old worker until the next reload.
   *
   * @throws ProxyDownError when the master does not respond; the disk is restored even then
   */
  async settle(): Promise<void> {
    const good = await this.lastGood();
    if ((await this.#read('conf.d/routes.cfg')) !== good) await this.#write('conf.d/routes.cfg', good);
    const state = await this.#masterState();
    if (state.failures > 0) await this.#reload(state);
  }

  /** Removes all routes, the good ones too, so that a proxy that cannot start with them starts without. */
  async clear(): Promise<void> {
    await this.#write('good/routes.cfg', '');
    await this.#write('conf.d/routes.cfg', '');
  }

  async #reload(before: MasterState): Promise<boolean> {
    // HAProxy 2.7 and newer answer after the reload, with its outcome; 2.6 closes the connection at once.
    const outcome = /^Success=([01])$/m.exec(await this.#command('reload', RELOAD_MS_MAX))?.[1];
    if (outcome !== undefined) return outcome === '1';
    const beganAt = performance.now();
    for (;;) {
      // The master does not answer while it reads.
      const now = await this.#masterState().catch(() => undefined);
      if (now && now.reloads > before.reloads) return now.failures === 0 && now.worker !== undefined;
      const ms = performance.now() - beganAt;
      if (now && ms > RELOAD_BEGIN_MS_MAX)
        throw new ProxyDownError('the proxy has restarted instead of reloading');
      if (ms > RELOAD_MS_MAX)
        throw new ProxyDownError(`the proxy has not reloaded within ${RELOAD_MS_MAX} ms`);
      await sleep(RELOAD_LOOK_INTERVAL_MS);
    }
  }

  async #masterState(): Promise<MasterState> {
    const answer = await this.#command('show proc');
    const master = /^\d+\s+master\s+(\d+)\s+\[failed: (\d+)\]\s+\S+\s+(\d+)\.(\d+)/m.exec(answer);
    if (!master) throw new ProxyDownError('the answer of the master cannot be read');
    const worker = /^(\d+)\s+worker\s+0\s/m.exec(answer)?.[1];
    const reloads = Number(master[1]);
    // A master counts its reloads from 0.
    if (reloads < this.#reloadsSeen) this.#restartSeen = true;
    this.#reloadsSeen = reloads;
    return {
      reloads,
      failures: Number(master[2]),
      version: [Number(master[3]), Number(master[4])],
      ...(worker !== undefined && { worker: Number(worker) }),
    };
  }

  async #command(text: string, msMax = COMMAND_MS_MAX): Promise<string> {
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
      return await withDeadline(answer, msMax, 'the answer of the proxy');
    } catch (error) {
      throw new ProxyDownError(`the proxy does not answer: ${(error as Error).message}`);
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

  /** The link by which HAProxy knows a certificate of the controller. */
  #linkOf(name: string): string {
    return linksOf({ cert: this.certificateFile(name) }).crt;
  }

  #writeKey(name: string, pem: string): Promise<void> {
    return this.#write(`certificates/${name}.pem`, pem, 0o600);
  }

  #read(name: string): Promise<string | undefined> {
    return readFile(this.#path(name), 'utf8').catch(ignoreMissing);
  }

  /** The proxy sees all of the new file or all of the old one. HAProxy reads only names that end in `.cfg`. */
  async #write(name: string, text: string, mode = 0o644): Promise<void> {
    const path = this.#path(name);
    await mkdir(dirname(path), { recursive: true });
    const file = await open(`${path}.new`, 'w', mode);
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
