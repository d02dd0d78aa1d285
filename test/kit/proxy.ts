import { once } from 'node:events';
import { connect, createServer, type NetConnectOpts, type Socket } from 'node:net';

/** Where a proxy listens, or what it stands before: a port of this machine, or the path of a socket. */
type Endpoint = { readonly port: number } | { readonly path: string };

/** A byte-for-byte proxy that a test can cut. */
export interface TestProxy {
  /** Breaks every connection now. */
  cut(): void;
  /** Passes nothing on any more, on the connections that are open now; for them, the machine behind has vanished. */
  silence(): void;
  /** Breaks every connection as soon as an answer has passed it by half. */
  cutInMidAnswer(): void;
  /** Resolves when a client has sent at least `bytes` at a time, before the answer can have come. */
  onceSent(bytes: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts a proxy before a server that may come and go.
 *
 * @param answersLateMs every answer takes this much longer, as if the server's disk were slow
 */
export async function startProxy(
  listenOn: Endpoint,
  target: Endpoint,
  answersLateMs = 0,
): Promise<TestProxy> {
  const sockets = new Set<Socket>();
  let isArmed = false;
  let watcher: { readonly bytes: number; readonly seen: () => void } | undefined;

  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const server = createServer((client) => {
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
