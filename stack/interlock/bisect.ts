import type { Route } from './route.ts';

/** What came of an attempt to make the proxy take routes. */
export interface Bisection {
  /** What the proxy follows now. */
  readonly taken: readonly Route[];
  /** New routes that it refuses even when each is the only new one. */
  readonly refused: readonly Route[];
  /** New routes that were not tried alone, because it would have taken too many attempts. */
  readonly untried: readonly Route[];
  /** The proxy refuses even what it should have for certain: no new route is to blame. */
  readonly isRefused: boolean;
}

/** Whether two routes are the same wish. */
export function isSameRoute(a: Route | undefined, b: Route | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/**
 * Makes the proxy take as many of the new routes as it can. If it refuses all of them together, which a certificate of one
 * service is enough for, halves are tried, and halves of those that are refused, until the guilty ones stand alone. In the
 * meantime services whose new route is not accepted have their old one, so nobody's site goes away during the search.
 *
 * @param taken what the proxy follows now
 * @param wanted what it should follow
 * @param apply one attempt; tells whether the proxy took it, and leaves it with the last good one if not
 * @param attemptsMax how many attempts there may be
 */
export async function bisectRoutes(
  taken: readonly Route[],
  wanted: readonly Route[],
  apply: (routes: readonly Route[]) => Promise<boolean>,
  attemptsMax: number,
): Promise<Bisection> {
  const old = new Map(taken.map((route) => [route.service, route]));
  const changed = wanted.filter((route) => !isSameRoute(old.get(route.service), route));
  const [refused, untried]: [Route[], Route[]] = [[], []];
  const accepted = new Set(wanted.filter((route) => !changed.includes(route)));
  const mixWith = (group: readonly Route[]): Route[] =>
    wanted.flatMap((route) =>
      accepted.has(route) || group.includes(route) ? [route] : (old.get(route.service) ?? []),
    );
  let attempts = 0;
  let isAnyTaken = false;
  const search = async (group: readonly Route[]): Promise<void> => {
    if (attempts === attemptsMax) {
      untried.push(...group);
      return;
    }
    attempts += 1;
    if (await apply(mixWith(group))) {
      isAnyTaken = true;
      for (const route of group) accepted.add(route);
    } else if (group.length <= 1) refused.push(...group);
    else {
      const middle = Math.ceil(group.length / 2);
      await search(group.slice(0, middle));
      await search(group.slice(middle));
    }
  };
  await search(changed);
  const isRefused = !isAnyTaken && changed.length === 0;
  return { taken: isAnyTaken ? mixWith([]) : taken, refused, untried, isRefused };
}
