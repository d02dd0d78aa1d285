import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bisectRoutes } from '#interlock/bisect.ts';
import type { Route } from '#interlock/route.ts';

/** As much of a route as the search looks at. */
const route = (service: string, version = 1): Route => ({ service, ageKey: String(version) }) as Route;
const key = ({ service, ageKey }: Route): string => `${service}${ageKey}`;

/** A proxy that refuses some routes, and remembers what it took. */
function proxyRefusing(bad: ReadonlySet<string>) {
  let followed: readonly string[] | undefined;
  let attempts = 0;
  return {
    apply: async (routes: readonly Route[]): Promise<boolean> => {
      attempts += 1;
      if (routes.some((one) => bad.has(key(one)))) return false;
      followed = routes.map(key);
      return true;
    },
    get followed() {
      return followed;
    },
    get attempts() {
      return attempts;
    },
  };
}

describe('new routes', () => {
  test('are applied together first', async () => {
    const proxy = proxyRefusing(new Set());
    const wanted = [route('a'), route('b', 2), route('c')];
    const { active, rejected } = await bisectRoutes([route('a'), route('b')], wanted, proxy.apply, 10);
    expect(active).toEqual(wanted);
    expect(rejected).toEqual([]);
    expect(proxy.attempts).toBe(1);
  });

  test('that are rejected are isolated, and their services keep the active route', async () => {
    const proxy = proxyRefusing(new Set(['b2', 'd1']));
    const wanted = [route('a', 2), route('b', 2), route('c'), route('d'), route('e')];
    const { active, rejected, isRejected } = await bisectRoutes(
      [route('a'), route('b')],
      wanted,
      proxy.apply,
      32,
    );
    expect(rejected.map(key)).toEqual(['b2', 'd1']);
    expect(active.map(key)).toEqual(['a2', 'b1', 'c1', 'e1']);
    expect(proxy.followed).toEqual(['a2', 'b1', 'c1', 'e1']);
    expect(isRejected).toBe(false);
  });

  test('that contain no new one are rejected as a whole', async () => {
    const proxy = proxyRefusing(new Set(['a1']));
    const adoption = await bisectRoutes([route('a'), route('b')], [route('a')], proxy.apply, 10);
    expect(adoption).toEqual({
      active: [route('a'), route('b')],
      rejected: [],
      untried: [],
      isRejected: true,
    });
  });

  test('beyond the limit of attempts are left untested', async () => {
    const proxy = proxyRefusing(new Set(['a1', 'h1']));
    const wanted = [...'abcdefgh'].map((name) => route(name));
    const { active, rejected, untried } = await bisectRoutes([], wanted, proxy.apply, 4);
    expect(proxy.attempts).toBe(4);
    expect([...rejected, ...untried, ...active].map(key).toSorted()).toEqual(wanted.map(key));
    expect(untried.length).toBeGreaterThan(0);
  });

  test('all end up active or rejected, whichever the proxy rejects', async () => {
    const names = [...'abcdefghij'];
    await fc.assert(
      fc.asyncProperty(fc.subarray(names), fc.subarray(names), async (had, bad) => {
        const proxy = proxyRefusing(new Set(bad.map((name) => `${name}2`)));
        const wanted = names.map((name) => route(name, 2));
        const adoption = await bisectRoutes(
          had.map((name) => route(name)),
          wanted,
          proxy.apply,
          100,
        );
        expect(adoption.rejected.map(key)).toEqual(bad.map((name) => `${name}2`));
        const expected = names.flatMap((name) =>
          bad.includes(name) ? (had.includes(name) ? [`${name}1`] : []) : [`${name}2`],
        );
        expect(adoption.active.map(key)).toEqual(
          bad.length === names.length ? had.map((n) => `${n}1`) : expected,
        );
        if (bad.length < names.length) expect(proxy.followed).toEqual(expected);
      }),
    );
  });
});
