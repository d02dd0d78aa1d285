import { once } from 'node:events';
import { StartError } from '../errors.ts';
import { listenForSignals } from '../signals.ts';
import { Cluster, clean } from './cluster.ts';
import { HELP, parseOptions } from './options.ts';

const WATCH_INTERVAL_MS = 2_000;

const startedAt = Date.now();
/** Names of the nodes whose engine was reported as stopped. */
const stoppedEngines = new Set<string>();
const progress = (text: string): void => {
  const seconds = String(Math.round((Date.now() - startedAt) / 1_000)).padStart(4);
  for (const line of text.split('\n')) console.log(`${seconds} s  ${line}`);
};

process.exitCode = await main();
process.exit();

async function main(): Promise<number> {
  try {
    const options = parseOptions(process.argv.slice(2));
    if (options.command === 'help') {
      console.log(HELP);
      return 0;
    }
    if (options.command === 'clean') {
      await clean();
      progress('The cluster is removed.');
      return 0;
    }
    return await runCluster(options.frontends, options.workers);
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    console.error([`cluster: ${error.message}`, ...error.details].join('\n'));
    return 1;
  }
}

async function runCluster(frontends: number, workers: number): Promise<number> {
  const { stop } = listenForSignals();
  const cluster = new Cluster({ frontends, workers, progress });
  const stopped = once(stop, 'abort');
  try {
    await Promise.race([
      cluster.open(),
      stopped.then(() => {
        throw new StartError('interrupted');
      }),
    ]);
    console.log(renderWelcome(cluster));
    const watch = setInterval(() => reportStoppedEngines(cluster), WATCH_INTERVAL_MS);
    await stopped;
    clearInterval(watch);
    return 0;
  } finally {
    progress('Removing the cluster');
    await cluster.close();
    progress('The cluster is removed.');
  }
}

/** Reports each engine that stopped, once. */
function reportStoppedEngines(cluster: Cluster): void {
  for (const { node, isRunning } of cluster.engines()) {
    if (isRunning) stoppedEngines.delete(node.name);
    else if (!stoppedEngines.has(node.name)) {
      stoppedEngines.add(node.name);
      progress(`The Docker engine of ${node.name} has stopped.`);
    }
  }
}

function renderWelcome(cluster: Cluster): string {
  return `
The cluster is running.

Vote:       curl -H 'Host: votingapp.local' -d choice=dogs http://${cluster.proxyAddress}/polls/cats-vs-dogs/votes
Results:    curl -H 'Host: results.votingapp.local' http://${cluster.proxyAddress}/polls/cats-vs-dogs/results
Tasks:      DOCKER_HOST=${cluster.manager.dockerHost} docker stack ps turnout
Passwords:  TURNOUT_CREDENTIALS=${cluster.credentials} stack/swarm/secrets.sh --show

Press Ctrl-C to remove the cluster with everything in it.`;
}
