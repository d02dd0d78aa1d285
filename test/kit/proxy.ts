import { once } from 'node:events';
import { connect, createServer, type NetConnectOpts, type Socket } from 'node:net';

/** Address of a proxy or of its server: a local port or the path of a unix socket. */
type Endpoint = { readonly port: number } | { readonly path: string };

/** A TCP proxy that can interrupt its connections. */
export interface TestProxy {
  /** Resets all connections. */
  cut(): void;
  /** Stops forwarding on the open connections, as if the server's machine had lost power. */
  silence(): void;
  /** Resets all connections and refuses new ones, until `allow`. */
  refuse(): void;
  allow(): void;
  /** Resets each connection after half of a response. */
  cutInMidAnswer(): void;
  /** Resolves when a client has sent at least `bytes` in one chunk, before the server can respond. */
  onceSent(bytes: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts a proxy for a server that may stop and restart.
 *
 * @param answersLateMs delays every response, as a slow disk would
 */
export async function startProxy(
  listenOn: Endpoint,
  target: Endpoint,
  answersLateMs = 0,
): Promise<TestProxy> {
  const sockets = new Set<Socket>();
  let isArmed = false;
  let isRefusing = false;
  let watcher: { readonly bytes: number; readonly seen: () => void } | undefined;

  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const server = createServer((client) => {
    if (isRefusing) {
      client.destroy();
      return;
    }
    const upstream = connect(target as NetConnectOpts);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (data: Buffer) => {
      if (watcher && data.length >= watcher.bytes) {
        watcher.seen();
        watcher = undefined;
      }
      if (!upstream.write(data)) client.pause();
    });
    upstream.on('drain', () => client.resume());
    client.on('drain', () => upstream.resume());
    upstream.on('data', (data: Buffer) => {
      if (isArmed) {
        isArmed = false;
        client.write(data.subarray(0, Math.ceil(data.length / 2)), cut);
        return;
      }
      if (answersLateMs > 0) setTimeout(() => client.write(data), answersLateMs);
      else if (!client.write(data)) upstream.pause();
    });
  });
  server.listen(listenOn);
  await once(server, 'listening');
  return {
    cut,
    silence: () => {
      for (const socket of sockets) socket.removeAllListeners('data').pause();
    },
    refuse: () => {
      isRefusing = true;
      cut();
    },
    allow: () => {
      isRefusing = false;
    },
    cutInMidAnswer: () => {
      isArmed = true;
    },
    onceSent: (bytes) =>
      new Promise((seen) => {
        watcher = { bytes, seen };
      }),
    close: async () => {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}
