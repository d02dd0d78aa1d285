import type { Site } from './model.ts';

const BACKEND_COLUMN = 1;
const SERVER_COLUMN = 3;
const ADDRESS_COLUMN = 4;
const ADMIN_COLUMN = 6;
/** Of the bits in that column: in maintenance, because its name has no address for it. */
const NOT_RESOLVED = 0x20;

/**
 * Prepares what the new worker learns of the servers from the old one, so that it knows where the tasks are, and which are
 * down, before its name server has answered once. A backend that is new, because a service has joined or left a site,
 * gets what another backend knows of the same service.
 *
 * @param dump the old worker's answer to `show servers state`
 * @param sites of the new configuration
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

/** Places for tasks that do not exist need no mention. */
function isResolved(columns: readonly string[]): boolean {
  return columns[ADDRESS_COLUMN] !== '-' && (Number(columns[ADMIN_COLUMN]) & NOT_RESOLVED) === 0;
}
