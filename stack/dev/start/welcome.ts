import { renderTable } from '../table.ts';
import { type Paint, plain } from '../terminal.ts';

/** What is shown once everything is ready. */
export interface Welcome {
  readonly services: readonly {
    readonly name: string;
    readonly about: string;
    readonly where: string;
    readonly log: string;
  }[];
  readonly vote: string;
  readonly results: string;
  readonly dashboard: string;
  readonly dashboardUser: string;
  readonly dashboardUsersFile: string;
  /** Of the poll in the example. */
  readonly poll: string;
  readonly choice: string;
  readonly data: string;
}

/** The table of processes, where to click, how to vote, how to stop. */
export function renderWelcome(welcome: Welcome, paint: Paint = plain): string {
  const { services, vote, results, dashboard, dashboardUser, dashboardUsersFile, poll, choice, data } =
    welcome;
  const rows = services.map(({ name, about, where, log }) => [name, about, where, log]);
  const link = (url: string) => paint('cyan', url);
  return [
    '',
    renderTable(['NAME', 'WHAT', 'WHERE', 'LOG'], rows, paint),
    '',
    `Vote:       ${link(vote)}`,
    `Results:    ${link(results)}`,
    `Dashboard:  ${link(dashboard)}  user ${dashboardUser}, password in ${dashboardUsersFile}`,
    '',
    `curl -i -d choice=${choice} ${vote}polls/${poll}/votes`,
    '',
    `Ctrl-C stops everything, votes stay in ${data}`,
  ].join('\n');
}
