import { lookup } from 'node:dns/promises';
import { ConfigError } from './config.ts';
import { parseRedisAddress, type RedisAddress } from './redis.ts';
import type { Secret } from './secret.ts';

/** Returns the addresses of the queues' nodes as of now. */
export type Discover = () => Promise<readonly RedisAddress[]>;

/**
 * Parses `QUEUE_NODES`: a comma-separated list of sockets and addresses (`/run/redis.sock`, `unix://user:password@/run/redis.sock`,
 * `redis://user:password@host:6379`, `host:6379`), or `dns:[user:password@]name:port`, which is resolved at every
 * call, one node per address. A comma within a password is written as `%2C`.
 *
 * @throws ConfigError when an entry cannot be parsed; the message holds no credentials
 */
export function discoverNodes(queueNodes: Secret): Discover {
  const text = queueNodes.reveal();
  if (text.startsWith('dns:')) return followDns(parse(`redis://${text.slice('dns:'.length)}`));
  const nodes = text
    .split(',')
    .map((entry) => entry.trim())
    .filter(Boolean)
    .map((entry) => parse(entry.startsWith('/') || entry.includes('://') ? entry : `redis://${entry}`));
  if (nodes.length === 0) throw new ConfigError(['QUEUE_NODES is an empty list']);
  return async () => nodes;
}

function parse(url: string): RedisAddress {
  try {
    return parseRedisAddress(url);
  } catch {
    throw new ConfigError([
      'QUEUE_NODES must be dns:name:port, or a comma-separated list of sockets and host:port',
    ]);
  }
}

/** If the name server does not answer, `lookup` throws and the caller keeps its nodes. */
function followDns(service: RedisAddress): Discover {
  const { host = '', port } = service.options;
  return async () => {
    const records = await lookup(host, { all: true });
    return records
      .map(({ address, family }) => ({
        name: family === 6 ? `[${address}]:${port}` : `${address}:${port}`,
        options: { ...service.options, host: address },
      }))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  };
}
