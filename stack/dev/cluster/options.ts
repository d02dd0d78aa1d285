import { parseArguments, parseWholeNumber } from '../arguments.ts';
import { FRONTENDS_MAX, WORKERS_MAX } from './topology.ts';

/** The command line of `npm run cluster`. */
export type Options =
  | { readonly command: 'help' }
  | { readonly command: 'clean' }
  | { readonly command: 'run'; readonly frontends: number; readonly workers: number };

export const HELP = `Usage: npm run cluster -- [options]

Runs Turnout on a Docker Swarm of several nodes on this machine. Each node is a Docker engine in namespaces of its own; the
scripts of stack/swarm initialize the Swarm and deploy the stack. Ctrl-C removes everything. Needs Linux and root; on
Debian it installs what is missing.

  --frontends N  number of frontend nodes, 1 to ${FRONTENDS_MAX} (default 2)
  --workers N    number of worker nodes, 1 to ${WORKERS_MAX} (default 1)
  --clean        remove what a crashed cluster left behind, then exit
  --help         show this text`;

/**
 * Parses the command line of `npm run cluster`.
 *
 * @throws StartError in one line when an option is unknown or out of range
 */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArguments(args, {
    options: {
      frontends: { type: 'string', default: '2' },
      workers: { type: 'string', default: '1' },
      clean: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return { command: 'help' };
  if (values.clean) return { command: 'clean' };
  return {
    command: 'run',
    frontends: parseWholeNumber('--frontends', values.frontends, 1, FRONTENDS_MAX),
    workers: parseWholeNumber('--workers', values.workers, 1, WORKERS_MAX),
  };
}
