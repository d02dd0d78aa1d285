import type { Route } from './route.ts';

/** Result of `bisectRoutes`. */
export interface Bisection {
  /** The routes that the proxy has loaded now. */
  readonly active: readonly Route[];
  /** New routes that the proxy rejects even when each is the only new one. */
  readonly rejected: readonly Route[];
  /** New routes left untested when `attemptsMax` was reached. */
  readonly untried: readonly Route[];
  /** The proxy rejects a configuration without new routes. */
  readonly isRejected: boolean;
}

/** Structural equality. */
export function isSameRoute(a: Route | undefined, b: Route | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/**
 * Applies as many new routes as the proxy accepts. If it rejects all of them together (one bad certificate suffices), bisects
 * to isolate each rejected route. Meanwhile services keep their old route, so no site goes down during the search.
 *
 * @param active the routes that the proxy has loaded
 * @param wanted the routes that it should have
 * @param apply tries routes; returns whether the proxy accepted them, and else leaves the last good ones in place
 * @param attemptsMax the most calls of `apply`
 */
export async function bisectRoutes(
  active: readonly Route[],
  wanted: readonly Route[],
  apply: (routes: readonly Route[]) => Promise<boolean>,
  attemptsMax: number,
): Promise<Bisection> {
  const old = new Map(active.map((route) => [route.service, route]));
  const changed = wanted.filter((route) => !isSameRoute(old.get(route.service), route));
  const [rejected, untried]: [Route[], Route[]] = [[], []];
  const accepted = new Set(wanted.filter((route) => !changed.includes(route)));
  const mixWith = (group: readonly Route[]): Route[] =>
    wanted.flatMap((route) =>
      accepted.has(route) || group.includes(route) ? [route] : (old.get(route.service) ?? []),
    );
  let attempts = 0;
  let isAnyAccepted = false;
  const search = async (group: readonly Route[]): Promise<void> => {
    if (attempts === attemptsMax) {
      untried.push(...group);
      return;
    }
    attempts += 1;
    if (await apply(mixWith(group))) {
      isAnyAccepted = true;
      for (const route of group) accepted.add(route);
    } else if (group.length <= 1) rejected.push(...group);
    else {
      const middle = Math.ceil(group.length / 2);
      await search(group.slice(0, middle));
      await search(group.slice(middle));
    }
  };
  await search(changed);
  const isRejected = !isAnyAccepted && changed.length === 0;
  return { active: isAnyAccepted ? mixWith([]) : active, rejected, untried, isRejected };
}
