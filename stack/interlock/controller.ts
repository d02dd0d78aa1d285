import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '#runtime/log.ts';
import type { Readiness } from '#runtime/readiness.ts';
import { bisectRoutes, isSameRoute } from './bisect.ts';
import { type HeldCertificate, readCertificates } from './certificates.ts';
import { type DockerApi, DockerError } from './docker.ts';
import { renderRoutes } from './haproxy.ts';
import type { InterlockMetrics } from './metrics.ts';
import { composeModel, type Edge, type EdgeSettings, type Version } from './model.ts';
import { type HaProxy, ProxyDownError } from './proxy.ts';
import { ProxyNotFoundError, type Route, readRoutes } from './route.ts';

/** Interval of polling without an event from Docker. */
const POLL_INTERVAL_MS = 15_000;
/** A stack changes many services at once, so events are collected before Docker is read. */
const DEBOUNCE_MS = 200;
/** Every reload leaves an old worker behind for a while, so reloads are limited to this rate. */
const CYCLE_INTERVAL_MS = 1_000;
const RECONNECT_MS_MIN = 500;
const RECONNECT_MS_MAX = 10_000;
/** A connection for events that broke silently delivers none, so it is renewed. */
const WATCH_MS_MAX = 10 * 60_000;
const ATTEMPTS_MAX = 32;
/** A proxy that is down for this long probably cannot start with its current routes. */
const DOWN_MS_MAX = 10_000;

export interface ControllerOptions {
  readonly docker: Pick<DockerApi, 'read' | 'watch'>;
  readonly proxy: Pick<
    HaProxy,
    | 'apply'
    | 'settle'
    | 'clear'
    | 'lastGood'
    | 'lastNote'
    | 'hasRestarted'
    | 'place'
    | 'renew'
    | 'certificateFile'
    | 'version'
  >;
  /** Folder of the certificates that the controller gives to the proxy. */
  readonly certificatesDir: string;
  readonly cluster: string;
  readonly edge: EdgeSettings;
  readonly log: Log;
  readonly readiness: Readiness;
  readonly metrics: InterlockMetrics;
  readonly pollIntervalMs?: number;
  readonly downMsMax?: number;
}

/** What a later controller needs to render the proxy's configuration again. */
interface Note {
  readonly routes: readonly Route[];
  readonly proxies: number;
  readonly version: Version;
}

/**
 * Keeps the proxy's routes in line with the labels of the services. If Docker or the proxy does not respond, the current
 * routes stay.
 *
 *   waiting ──event, or pollIntervalMs──▶ debouncing ──DEBOUNCE_MS──▶ reading Docker ──▶ reconciling the proxy ──▶ waiting
 *                                                       └─ no response: the last routes are reconciled ─┘
 */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #stop = new AbortController();
  #running: Promise<unknown> | undefined;
  #wakeWaiter = (): void => {};
  #hasChanged = true;

  /** The routes of the labels, as read last; `undefined` until Docker has responded. */
  #wanted: readonly Route[] | undefined;
  #proxies = 1;
  #version: Version = [2, 6];
  #certificates: ReadonlyMap<string, HeldCertificate> = new Map();
  /** The reason for each file of the folder that is no certificate. */
  #unreadable: ReadonlyMap<string, string> = new Map();
  /** The faults of certificates that were logged, by name, so that each is logged once. */
  #certificateFaults: ReadonlyMap<string, string> = new Map();
  #labelFaults: ReadonlyMap<string, string> = new Map();
  /** The routes that the proxy has loaded. */
  #active: readonly Route[] = [];
  /** Routes that the proxy rejected, by service. They are not tried again until they change or the proxy restarts. */
  readonly #quarantine = new Map<string, Route>();
  /** The faults that were logged, by service, so that each is logged once. */
  #logged: ReadonlyMap<string, string> = new Map();
  #downSince: number | undefined;

  constructor(options: ControllerOptions) {
    this.#options = options;
  }

  /** Starts following the Swarm. Can be called twice. */
  start(): void {
    this.#running ??= Promise.all([this.#follow(), this.#watch()]);
  }

  /** Stops after the step in progress. Can be called twice. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wakeWaiter();
    await this.#running;
  }

  get #edge(): Edge {
    return { ...this.#options.edge, proxies: this.#proxies, version: this.#version };
  }

  async #follow(): Promise<void> {
    await this.#restore();
    while (!this.#stop.signal.aborted) {
      await this.#waitForChange();
      if (this.#stop.signal.aborted) return;
      await this.#cycle();
      await this.#pause(CYCLE_INTERVAL_MS);
    }
  }

  /** Restores the active routes of an earlier controller, if they match what the proxy has loaded. */
  async #restore(): Promise<void> {
    const { proxy, log } = this.#options;
    try {
      const note = await proxy.lastNote();
      if (note === undefined) return;
      const { routes, proxies, version } = JSON.parse(note) as Note;
      this.#proxies = proxies;
      this.#version = version;
      const text = renderRoutes(composeModel(routes, this.#edge).model);
      if (text === (await proxy.lastGood())) this.#active = routes;
    } catch (error) {
      log.warn('active routes unknown', { error });
    }
  }

  /** Waits for a change, then collects further ones. While the proxy is down, it only debounces. */
  async #waitForChange(): Promise<void> {
    const { pollIntervalMs = POLL_INTERVAL_MS } = this.#options;
    if (!this.#hasChanged && this.#downSince === undefined) {
      const woken = new Promise<void>((resolve) => {
        this.#wakeWaiter = resolve;
      });
      const rest = new AbortController();
      await Promise.race([woken, sleep(pollIntervalMs, undefined, { signal: rest.signal }).catch(() => {})]);
      rest.abort();
    }
    await this.#pause(DEBOUNCE_MS);
    this.#hasChanged = false;
  }

  async #cycle(): Promise<void> {
    const { metrics } = this.#options;
    await this.#readCertificates();
    await this.#readDocker();
    if (!this.#wanted) return;
    await this.#reconcile(this.#wanted);
    metrics.services({
      routed: this.#active.length,
      disabled: this.#logged.size,
      quarantined: this.#quarantine.size,
    });
  }

  /** Places certificates on disk even while Docker and the proxy are down, which may wait for them to start. */
  async #readCertificates(): Promise<void> {
    const { proxy, certificatesDir, metrics } = this.#options;
    const { certificates, faults } = await readCertificates(certificatesDir);
    await proxy.place(certificates);
    this.#certificates = certificates;
    metrics.certificates([...certificates].map(([name, { expiresAt }]) => [name, expiresAt]));
    this.#unreadable = faults;
  }

  /** Gives the proxy what has changed, and logs each fault once. */
  async #renewCertificates(): Promise<void> {
    const { proxy, log, metrics } = this.#options;
    const outcomes = await proxy.renew(this.#certificates);
    const faults = new Map(this.#unreadable);
    for (const [certificate, rejection] of outcomes) {
      metrics.renewal(rejection === undefined ? 'accepted' : 'rejected');
      if (rejection === undefined) log.info('certificate renewed', { certificate });
      else faults.set(certificate, rejection);
    }
    for (const [certificate, reason] of faults) {
      if (this.#certificateFaults.get(certificate) !== reason)
        log.error('certificate not usable, the previous one stays', { certificate, reason });
    }
    this.#certificateFaults = faults;
  }

  async #readDocker(): Promise<void> {
    const { docker, proxy, cluster, log, readiness, metrics } = this.#options;
    const own = new Map(
      [...this.#certificates].map(([name, { id }]) => [name, { id, file: proxy.certificateFile(name) }]),
    );
    try {
      const { routes, proxies, faults } = readRoutes(await docker.read(), cluster, own);
      this.#wanted = routes;
      this.#proxies = proxies;
      this.#labelFaults = faults;
      if (readiness.faults['docker'] !== undefined) log.info('Docker reachable');
      readiness.ready('docker');
      metrics.docker(true);
    } catch (error) {
      if (!(error instanceof DockerError || error instanceof ProxyNotFoundError)) throw error;
      if (readiness.faults['docker'] !== error.message) {
        log.error('services not readable, routes unchanged', { reason: error.message });
      }
      readiness.notReady('docker', error.message);
      metrics.docker(false);
    }
  }

  async #reconcile(wanted: readonly Route[]): Promise<void> {
    const { proxy, log, readiness, metrics } = this.#options;
    try {
      await proxy.settle();
      await this.#renewCertificates();
      this.#version = await proxy.version();
      if (proxy.hasRestarted()) this.#quarantine.clear();
      const { model, accepted, faults } = composeModel(this.#withoutQuarantined(wanted), this.#edge);
      const isCurrent = renderRoutes(model) === (await proxy.lastGood());
      if (isCurrent) this.#active = accepted;
      if (isCurrent || (await this.#apply(accepted))) readiness.ready('proxy');
      this.#logFaults(new Map([...this.#labelFaults, ...faults, ...this.#quarantineFaults()]));
      if (this.#downSince !== undefined) log.info('proxy reachable');
      this.#downSince = undefined;
      metrics.proxy(true);
    } catch (error) {
      if (!(error instanceof ProxyDownError)) throw error;
      readiness.notReady('proxy', error.message);
      metrics.proxy(false);
      await this.#onProxyDown(error);
    }
  }

  /** Returns the wanted routes, with the active route in place of each quarantined one. */
  #withoutQuarantined(wanted: readonly Route[]): Route[] {
    const names = new Set(wanted.map(({ service }) => service));
    for (const service of this.#quarantine.keys()) {
      if (!names.has(service)) this.#quarantine.delete(service);
    }
    return wanted.flatMap((route) => {
      if (!isSameRoute(this.#quarantine.get(route.service), route)) {
        this.#quarantine.delete(route.service);
        return [route];
      }
      return this.#active.find(({ service }) => service === route.service) ?? [];
    });
  }

  /** Applies the routes that the proxy accepts; false if it rejects an unchanged configuration. */
  async #apply(offered: readonly Route[]): Promise<boolean> {
    const { proxy, log, readiness, metrics } = this.#options;
    const attempt = async (routes: readonly Route[]): Promise<boolean> => {
      const { model } = composeModel(routes, this.#edge);
      const note: Note = { routes, proxies: this.#proxies, version: this.#version };
      const isAccepted = await proxy.apply(model, JSON.stringify(note));
      metrics.reload(isAccepted ? 'accepted' : 'rejected');
      return isAccepted;
    };
    const { active, rejected, untried, isRejected } = await bisectRoutes(
      this.#active,
      offered,
      attempt,
      ATTEMPTS_MAX,
    );
    this.#active = active;
    for (const route of rejected) this.#quarantine.set(route.service, route);
    if (untried.length > 0) this.#hasChanged = true;
    await proxy.settle();
    if (isRejected) {
      const reason = 'the proxy rejects the routes, although no service has changed';
      if (readiness.faults['proxy'] !== reason) log.error(reason);
      readiness.notReady('proxy', reason);
      return false;
    }
    log.info('routes applied', { services: active.length, quarantined: rejected.length });
    return true;
  }

  #quarantineFaults(): [string, string][] {
    const reason =
      'the proxy rejects its route; the previous one stays, if there was one; see the log of the proxy';
    return [...this.#quarantine.keys()].map((service) => [service, reason]);
  }

  /** Logs each fault of a service once, and its end once. */
  #logFaults(faults: ReadonlyMap<string, string>): void {
    const { log } = this.#options;
    for (const [service, reason] of faults) {
      if (this.#logged.get(service) !== reason) log.error('service not routed', { service, reason });
    }
    for (const service of this.#logged.keys()) {
      if (!faults.has(service)) log.info('service fault resolved', { service });
    }
    this.#logged = faults;
  }

  /**
   * A proxy that is down restarts with the configuration on disk. If it does not, the configuration may be the cause, for
   * instance a secret that the proxy's last update removed. Then the routes are cleared, and reapplied once it responds.
   */
  async #onProxyDown(error: ProxyDownError): Promise<void> {
    const { proxy, log, downMsMax = DOWN_MS_MAX } = this.#options;
    const now = performance.now();
    if (this.#downSince === undefined) log.error('proxy down', { reason: error.message });
    this.#downSince ??= now;
    if (now - this.#downSince < downMsMax || (await proxy.lastGood()) === '') return;
    log.error('proxy does not restart, clearing its routes');
    await proxy.clear();
    this.#active = [];
  }

  /** Follows Docker's events, which end a wait early. */
  async #watch(): Promise<void> {
    const { docker, log } = this.#options;
    let delayMs = RECONNECT_MS_MIN;
    while (!this.#stop.signal.aborted) {
      const beganAt = performance.now();
      try {
        const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(WATCH_MS_MAX)]);
        await docker.watch(() => this.#wakeUp(), signal);
      } catch (error) {
        if (!(error instanceof DockerError)) throw error;
        log.debug('Docker events ended', { reason: error.message });
      }
      delayMs =
        performance.now() - beganAt > RECONNECT_MS_MAX
          ? RECONNECT_MS_MIN
          : Math.min(2 * delayMs, RECONNECT_MS_MAX);
      await this.#pause(delayMs);
    }
  }

  #wakeUp(): void {
    this.#hasChanged = true;
    this.#wakeWaiter();
  }

  async #pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#stop.signal }).catch(() => {});
  }
}
