import type { Site } from './model.ts';

const BACKEND_COLUMN = 1;
const SERVER_COLUMN = 3;
const ADDRESS_COLUMN = 4;
const ADMIN_COLUMN = 6;
/** Bit of that column: in maintenance, because DNS has no address for the slot. */
const NOT_RESOLVED = 0x20;

/**
 * Renders the server state for the new worker from the old one's, so that it has addresses and health of the tasks before its
 * first DNS response. A new backend, which appears when a service joins or leaves a site, gets the state of another backend of
 * the same service.
 *
 * @param dump the old worker's response to `show servers state`
 * @param sites the sites of the new configuration
 */
export function carryServers(dump: string, sites: readonly Site[]): string {
  const lines = dump.split('\n').map((line) => line.trim());
  const header = lines.filter((line) => /^(\d+|#.*)$/.test(line));
  const all = lines.filter((line) => /^\d+ /.test(line)).map((line) => line.split(' '));
  const known = all.filter(isResolved);
  const backends = new Set(all.map((columns) => columns[BACKEND_COLUMN]));
  const carried = sites
    .filter(({ name }) => !backends.has(name))
    .flatMap(({ name, servers }) =>
      servers.flatMap(({ service }) => {
        const source = known.find((columns) => columns[SERVER_COLUMN]?.startsWith(`${service}.`));
        return known
          .filter(
            (columns) =>
              columns[BACKEND_COLUMN] === source?.[BACKEND_COLUMN] &&
              columns[SERVER_COLUMN]?.startsWith(`${service}.`),
          )
          .map((columns) => columns.with(BACKEND_COLUMN, name).join(' '));
      }),
    );
  return `${[...header, ...known.map((columns) => columns.join(' ')), ...carried].join('\n')}\n`;
}

/** Slots without a task are left out. */
function isResolved(columns: readonly string[]): boolean {
  return columns[ADDRESS_COLUMN] !== '-' && (Number(columns[ADMIN_COLUMN]) & NOT_RESOLVED) === 0;
}
