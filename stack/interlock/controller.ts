import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '#runtime/log.ts';
import type { Readiness } from '#runtime/readiness.ts';
import { bisectRoutes, isSameRoute } from './bisect.ts';
import { type DockerApi, DockerFault } from './docker.ts';
import { renderRoutes } from './haproxy.ts';
import type { InterlockMetrics } from './metrics.ts';
import { composeModel } from './model.ts';
import { type HaProxy, ProxyAway } from './proxy.ts';
import { ProxyFault, type Route, readRoutes } from './route.ts';

/** How often the Swarm is looked at when it says nothing. */
const POLL_INTERVAL_MS = 15_000;
/** A change seldom comes alone: a stack is many services. */
const GATHER_MS = 200;
/** Every reload leaves an old worker behind for a while, so they are no more frequent than this. */
const CYCLE_INTERVAL_MS = 1_000;
const RECONNECT_MS_MIN = 500;
const RECONNECT_MS_MAX = 10_000;
/** Events go over one connection, and one that broke silently tells nothing. */
const WATCH_MS_MAX = 10 * 60_000;
const ATTEMPTS_MAX = 32;
/** A proxy that is away for so long probably cannot start with the routes that it has. */
const AWAY_MS_MAX = 10_000;

export interface ControllerOptions {
  readonly docker: Pick<DockerApi, 'read' | 'watch'>;
  readonly proxy: Pick<HaProxy, 'apply' | 'settle' | 'clear' | 'lastGood' | 'lastNote' | 'takeRestart'>;
  readonly cluster: string;
  readonly postRateMax: number;
  readonly log: Log;
  readonly readiness: Readiness;
  readonly metrics: InterlockMetrics;
  readonly pollIntervalMs?: number;
  readonly awayMsMax?: number;
}

/**
 * Keeps the proxy's routes what the labels of the services say. When Docker or the proxy does not answer, everything
 * stays as it is.
 *
 *   waiting ──event, or pollIntervalMs──▶ gathering ──GATHER_MS──▶ reading Docker ──▶ giving to the proxy ──▶ waiting
 *                                                       └─ no answer: the routes read last are given ─┘
 */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #stop = new AbortController();
  #running: Promise<unknown> | undefined;
  #wake = (): void => {};
  #isNews = true;

  /** What the services want, as read last; `undefined` until Docker has answered once. */
  #wanted: readonly Route[] | undefined;
  #labelFaults: ReadonlyMap<string, string> = new Map();
  /** What the proxy follows. */
  #taken: readonly Route[] = [];
  /** Routes that it refused, by service; not offered again until they change, or the proxy is another one. */
  readonly #quarantine = new Map<string, Route>();
  /** What was said about each service, so that it is said once. */
  #told: ReadonlyMap<string, string> = new Map();
  #awaySince: number | undefined;

  constructor(options: ControllerOptions) {
    this.#options = options;
  }

  /** Begins to follow. Can be called twice. */
  start(): void {
    this.#running ??= Promise.all([this.#follow(), this.#watch()]);
  }

  /** Ends after the step under way. Can be called twice. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake();
    await this.#running;
  }

  async #follow(): Promise<void> {
    await this.#remember();
    while (!this.#stop.signal.aborted) {
      await this.#gather();
      if (this.#stop.signal.aborted) return;
      await this.#cycle();
      await this.#pause(CYCLE_INTERVAL_MS);
    }
  }

  /** What the proxy took from an earlier life of ours, if that is known for sure. */
  async #remember(): Promise<void> {
    const { proxy, log, postRateMax } = this.#options;
    try {
      const routes = JSON.parse((await proxy.lastNote()) ?? '[]') as Route[];
      const text = renderRoutes(composeModel(routes, postRateMax).model);
      if (text === (await proxy.lastGood())) this.#taken = routes;
    } catch (error) {
      log.warn('what the proxy took last is not known', { error });
    }
  }

  /** Waits for news, and then a little for more of it. A proxy that is away is asked again soon. */
  async #gather(): Promise<void> {
    const { pollIntervalMs = POLL_INTERVAL_MS } = this.#options;
    if (!this.#isNews && this.#awaySince === undefined) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const rest = new AbortController();
      await Promise.race([woken, sleep(pollIntervalMs, undefined, { signal: rest.signal }).catch(() => {})]);
      rest.abort();
    }
    await this.#pause(GATHER_MS);
    this.#isNews = false;
  }

  async #cycle(): Promise<void> {
    const { metrics } = this.#options;
    await this.#readDocker();
    if (!this.#wanted) return;
    await this.#give(this.#wanted);
    metrics.services({
      routed: this.#taken.length,
      disabled: this.#told.size,
      quarantined: this.#quarantine.size,
    });
  }

  async #readDocker(): Promise<void> {
    const { docker, cluster, log, readiness, metrics } = this.#options;
    try {
      const { routes, faults } = readRoutes(await docker.read(), cluster);
      this.#wanted = routes;
      this.#labelFaults = faults;
      if (readiness.faults['docker'] !== undefined) log.info('Docker answers');
      readiness.ready('docker');
      metrics.docker(true);
    } catch (error) {
      if (!(error instanceof DockerFault || error instanceof ProxyFault)) throw error;
      if (readiness.faults['docker'] !== error.message) {
        log.error('the services cannot be read; the routes stay as they are', { reason: error.message });
      }
      readiness.notReady('docker', error.message);
      metrics.docker(false);
    }
  }

  async #give(wanted: readonly Route[]): Promise<void> {
    const { proxy, log, readiness, metrics, postRateMax } = this.#options;
    try {
      await proxy.settle();
      if (proxy.takeRestart()) this.#quarantine.clear();
      const { model, accepted, faults } = composeModel(this.#offer(wanted), postRateMax);
      const isCurrent = renderRoutes(model) === (await proxy.lastGood());
      if (isCurrent) this.#taken = accepted;
      if (isCurrent || (await this.#adopt(accepted))) readiness.ready('proxy');
      this.#tell(new Map([...this.#labelFaults, ...faults, ...this.#refusals()]));
      if (this.#awaySince !== undefined) log.info('the proxy answers');
      this.#awaySince = undefined;
      metrics.proxy(true);
    } catch (error) {
      if (!(error instanceof ProxyAway)) throw error;
      readiness.notReady('proxy', error.message);
      metrics.proxy(false);
      await this.#miss(error);
    }
  }

  /** What the services want, but for what the proxy has refused already: of those, what they had before. */
  #offer(wanted: readonly Route[]): Route[] {
    const names = new Set(wanted.map(({ service }) => service));
    for (const service of this.#quarantine.keys()) {
      if (!names.has(service)) this.#quarantine.delete(service);
    }
    return wanted.flatMap((route) => {
      if (!isSameRoute(this.#quarantine.get(route.service), route)) {
        this.#quarantine.delete(route.service);
        return [route];
      }
      return this.#taken.find(({ service }) => service === route.service) ?? [];
    });
  }

  /** Makes the proxy take what it can of the new routes; `false` when that is nothing, and nobody is to blame. */
  async #adopt(offered: readonly Route[]): Promise<boolean> {
    const { proxy, log, readiness, metrics, postRateMax } = this.#options;
    const attempt = async (routes: readonly Route[]): Promise<boolean> => {
      const { model } = composeModel(routes, postRateMax);
      const isTaken = await proxy.apply(model, JSON.stringify(routes));
      metrics.reload(isTaken ? 'taken' : 'refused');
      return isTaken;
    };
    const { taken, refused, untried, isRefused } = await bisectRoutes(
      this.#taken,
      offered,
      attempt,
      ATTEMPTS_MAX,
    );
    this.#taken = taken;
    for (const route of refused) this.#quarantine.set(route.service, route);
    if (untried.length > 0) this.#isNews = true;
    await proxy.settle();
    if (isRefused) {
      const reason = 'the proxy refuses the routes, although no service has changed';
      if (readiness.faults['proxy'] !== reason) log.error(reason);
      readiness.notReady('proxy', reason);
      return false;
    }
    log.info('the proxy follows new routes', { services: taken.length, refused: refused.length });
    return true;
  }

  #refusals(): [string, string][] {
    const reason =
      'the proxy refuses its route, so it keeps the one it had, if any; the log of the proxy says why';
    return [...this.#quarantine.keys()].map((service) => [service, reason]);
  }

  /** Says what is wrong with a service once, and once when it no longer is. */
  #tell(faults: ReadonlyMap<string, string>): void {
    const { log } = this.#options;
    for (const [service, reason] of faults) {
      if (this.#told.get(service) !== reason) log.error('a service is not routed', { service, reason });
    }
    for (const service of this.#told.keys()) {
      if (!faults.has(service)) log.info('nothing is wrong with the service any more', { service });
    }
    this.#told = faults;
  }

  /**
   * A proxy that is away comes back with what is on the disk. When it does not, that may be the reason: a secret of a
   * route may be gone with the proxy's last update. It gets the routes again, one by one if need be, once it answers.
   */
  async #miss(error: ProxyAway): Promise<void> {
    const { proxy, log, awayMsMax = AWAY_MS_MAX } = this.#options;
    const now = performance.now();
    if (this.#awaySince === undefined) log.error('the proxy is away', { reason: error.message });
    this.#awaySince ??= now;
    if (now - this.#awaySince < awayMsMax || (await proxy.lastGood()) === '') return;
    log.error('the proxy does not come back: it may start without its routes, and gets them then');
    await proxy.clear();
    this.#taken = [];
  }

  /** Lets Docker's events cut the waiting short. */
  async #watch(): Promise<void> {
    const { docker, log } = this.#options;
    let delayMs = RECONNECT_MS_MIN;
    while (!this.#stop.signal.aborted) {
      const beganAt = performance.now();
      try {
        const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(WATCH_MS_MAX)]);
        await docker.watch(() => this.#poke(), signal);
      } catch (error) {
        if (!(error instanceof DockerFault)) throw error;
        log.debug("Docker's events ended", { reason: error.message });
      }
      delayMs =
        performance.now() - beganAt > RECONNECT_MS_MAX
          ? RECONNECT_MS_MIN
          : Math.min(2 * delayMs, RECONNECT_MS_MAX);
      await this.#pause(delayMs);
    }
  }

  #poke(): void {
    this.#isNews = true;
    this.#wake();
  }

  async #pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#stop.signal }).catch(() => {});
  }
}
