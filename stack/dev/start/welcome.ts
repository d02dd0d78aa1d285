import { renderTable } from '../table.ts';
import { type Paint, plain } from '../terminal.ts';

/** Returns the text for the user once every process is ready. */
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

/** Renders what runs, where to click, how to vote and how to stop. */
export function renderWelcome(welcome: Welcome, paint: Paint = plain): string {
  const { services, vote, results, dashboard, dashboardUser, dashboardUsersFile, poll, choice, data } =
    welcome;
  const rows = services.map(({ name, about, where, log }) => [name, about, where, log]);
  const link = (url: string) => paint('cyan', url);
  return [
    '',
    renderTable(['NAME', 'WHAT', 'WHERE', 'LOG'], rows, paint),
    '',
    'Turnout is running.',
    '',
    `Vote:       ${link(vote)}`,
    `Results:    ${link(results)}`,
    `Dashboard:  ${link(dashboard)}  (user ${dashboardUser}, password in ${dashboardUsersFile})`,
    `Try:        curl -i -d choice=${choice} ${vote}polls/${poll}/votes`,
    '',
    `Press Ctrl-C to stop. Votes stay in ${data} for the next start.`,
  ].join('\n');
}
