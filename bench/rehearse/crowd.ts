import type { LoadSpec, RatePoint, RequestKind, Target } from '#kit/load/spec.ts';
import { arrivedBy, type Curve, curveOf } from '../plan/curve.ts';

const INTERVAL_MS = 1_000;
/** Connections suffice for answers within this time at the peak. */
const ANSWER_SECONDS = 0.1;
/** Voters whose request finds no connection within this time give up. */
const PATIENCE_MS = 10_000;
const CONNECTIONS_MIN = 8;
const CONNECTIONS_MAX = 512;
/** Linux lets a program connect from any address of 127.0.0.0/8. */
const HOME_ADDRESSES = 100;
const OFFICE_ADDRESS = '127.0.2.1';
const BOT_ADDRESS = '127.0.3.1';

/** Part of the crowd. Each that votes has a choice of its own, so the result shows whether it was counted. */
export interface Group {
  readonly id: 'pages' | 'homes' | 'office' | 'again' | 'bot';
  /** For the ballot and the report. */
  readonly label: string;
  readonly kind: RequestKind;
  /** Requests relative to the voters. The shares of the people who vote sum to 1; the bot adds to them. */
  readonly share: number;
  readonly arrival: 'crowd' | 'constant';
}

export const GROUPS: readonly Group[] = [
  { id: 'pages', label: 'page views', kind: 'page', share: 1, arrival: 'crowd' },
  { id: 'homes', label: 'first votes, many addresses', kind: 'form', share: 0.65, arrival: 'crowd' },
  { id: 'office', label: 'first votes, one address', kind: 'form', share: 0.2, arrival: 'crowd' },
  { id: 'again', label: 'voters who change their vote', kind: 'returning', share: 0.15, arrival: 'crowd' },
  { id: 'bot', label: 'a bot without cookies', kind: 'first', share: 0.02, arrival: 'constant' },
];

/** The choices of the poll: one for each group that votes. */
export const CHOICES: readonly { readonly id: string; readonly label: string }[] = GROUPS.filter(
  ({ kind }) => kind !== 'page',
).map(({ id, label }) => ({ id, label }));

/** The load of one group. */
export interface GroupLoad {
  readonly group: Group;
  readonly spec: LoadSpec;
}

/** @param targets with a local address only where the target is on this machine */
export function crowdOf(
  voters: number,
  seconds: number,
  targets: readonly Target[],
  poll: string,
): GroupLoad[] {
  return GROUPS.map((group) => {
    const requests = Math.max(1, Math.round(voters * group.share));
    const rates = group.arrival === 'crowd' ? ratesOf(requests, seconds) : constantRate(requests, seconds);
    const peak = Math.max(...rates.map(({ perSecond }) => perSecond));
    const connections = Math.min(
      CONNECTIONS_MAX,
      Math.max(CONNECTIONS_MIN, Math.ceil(peak * ANSWER_SECONDS)),
    );
    return {
      group,
      spec: {
        targets: targetsOf(group, targets).map((target) => ({
          ...target,
          ballot: { poll, choice: group.id },
        })),
        kind: group.kind,
        connections,
        seconds,
        rates,
        patienceMs: PATIENCE_MS,
        intervalMs: INTERVAL_MS,
      },
    };
  });
}

function constantRate(requests: number, seconds: number): RatePoint[] {
  return [{ atSeconds: 0, perSecond: requests / seconds }];
}

/**
 * Returns the rates of `curveOf`, a point a second, without its last 5 %: scaled so that all requests are due within `seconds`.
 */
function ratesOf(requests: number, seconds: number): RatePoint[] {
  const curve = curveOf(requests, seconds);
  const steps = Math.max(1, Math.ceil(seconds));
  const points = Array.from({ length: steps + 1 }, (_, step) => {
    const atSeconds = (seconds * step) / steps;
    return { atSeconds, perSecond: rateAt(curve, atSeconds) };
  });
  const width = seconds / steps;
  const area = points
    .slice(1)
    .reduce(
      (sum, { perSecond }, index) => sum + ((points[index]?.perSecond ?? 0) + perSecond) * (width / 2),
      0,
    );
  return points.map(({ atSeconds, perSecond }) => ({ atSeconds, perSecond: (perSecond * requests) / area }));
}

/** The derivative of `arrivedBy`. */
function rateAt(curve: Curve, seconds: number): number {
  return (curve.voters - arrivedBy(curve, seconds)) / curve.decaySeconds;
}

/** On this machine, groups have addresses of their own; elsewhere the whole crowd has the address of this machine. */
function targetsOf({ id }: Group, targets: readonly Target[]): Target[] {
  const addresses = {
    office: [OFFICE_ADDRESS],
    bot: [BOT_ADDRESS],
    homes: homeAddresses(),
    pages: homeAddresses(),
    again: homeAddresses(),
  }[id];
  // Neighbours in the list have different targets, so that few connections are spread over all of them too.
  return addresses.flatMap((localAddress) =>
    targets.map((target) => (isLoopback(target.host ?? '127.0.0.1') ? { ...target, localAddress } : target)),
  );
}

function homeAddresses(): string[] {
  return Array.from({ length: HOME_ADDRESSES }, (_, index) => `127.0.1.${index + 1}`);
}

/** Whether a host is an IPv4 address of this machine's loopback. `localhost` may be IPv6, so it is resolved before. */
function isLoopback(host: string): boolean {
  return host.startsWith('127.');
}
