import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { StartError } from '../errors.ts';
import { listenForSignals } from '../signals.ts';
import { Cluster, clean } from './cluster.ts';

const HELP = `Usage: npm run cluster -- [options]

Makes a Docker Swarm of several nodes on this machine, each an engine in namespaces of its own, deploys Turnout on it with
the scripts of stack/swarm, and takes everything away again on Ctrl-C. Needs Linux, root, and nothing else on Debian.

  --frontends N  frontend nodes: 1 to 100 (default 2)
  --workers M    worker nodes: 1 to 50 (default 1)
  --clean        only remove what a cluster that crashed has left
  --help         this text`;

const WATCH_INTERVAL_MS = 2_000;

const startedAt = Date.now();
const dead = new Set<string>();
const say = (text: string): void => {
  for (const line of text.split('\n')) console.log(`${stamp()}  ${line}`);
};
const stamp = (): string => `${String(Math.round((Date.now() - startedAt) / 1_000)).padStart(4)} s`;

process.exitCode = await main();
process.exit();

async function main(): Promise<number> {
  try {
    const options = parse(process.argv.slice(2));
    if (options.help) {
      console.log(HELP);
      return 0;
    }
    if (options.clean) {
      await clean();
      say('Nothing of a cluster is left.');
      return 0;
    }
    return await runLab(Number(options.frontends), Number(options.workers));
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    console.error([`cluster: ${error.message}`, ...error.details].join('\n'));
    return 1;
  }
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        frontends: { type: 'string', default: '2' },
        workers: { type: 'string', default: '1' },
        clean: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new StartError(`${(error as Error).message.split('. ')[0]} (see --help)`);
  }
}

async function runLab(frontends: number, workers: number): Promise<number> {
  const { stop } = listenForSignals();
  const cluster = new Cluster({ frontends, workers, progress: say });
  const stopped = once(stop, 'abort');
  try {
    await Promise.race([
      cluster.open(),
      stopped.then(() => {
        throw new StartError('interrupted');
      }),
    ]);
    describe(cluster);
    const watch = setInterval(() => reportDead(cluster), WATCH_INTERVAL_MS);
    await stopped;
    clearInterval(watch);
    return 0;
  } finally {
    say('Taking everything away');
    await cluster.close();
    say('Nothing of the cluster is left.');
  }
}

/** Engines that somebody has ended, each once. */
function reportDead(cluster: Cluster): void {
  for (const { node, isRunning } of cluster.allEngines) {
    if (isRunning) dead.delete(node.name);
    else if (!dead.has(node.name)) {
      dead.add(node.name);
      say(`The engine of ${node.name} has ended.`);
    }
  }
}

function describe(cluster: Cluster): void {
  const { dockerHost } = cluster.manager;
  console.log(`
Vote:       curl -H 'Host: votingapp.local' -d choice=dogs http://${cluster.proxyAddress}/polls/cats-vs-dogs/votes
Results:    curl -H 'Host: results.votingapp.local' http://${cluster.proxyAddress}/polls/cats-vs-dogs/results
Look:       DOCKER_HOST=${dockerHost} docker stack ps turnout
Passwords:  TURNOUT_CREDENTIALS=${cluster.credentials} stack/swarm/secrets.sh --show

Ctrl-C takes everything away.`);
}
