import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { codeOf, StartError } from '../errors.ts';
import { type LockResult, takeLock } from '../lock.mjs';
import { frontendFolder, nodeName } from './plan.ts';
import { SOCKET_PATH_BYTES_MAX } from './redis-server.ts';

const FRONTEND_FOLDER = /^frontend\d{2}$/;

/** The data folder: it outlives a run, and is locked during one. */
export interface DataFolder {
  /** Absolute. */
  readonly path: string;
  readonly logFolder: string;
  readonly secretFolder: string;
  readonly postgresFolder: string;
  readonly pidsFile: string;
  /** The `QUEUE_NODES` of every frontend that ever ran on the folder; read by `npm run audit`. */
  readonly queueNodesFile: string;
  /** Unlocks the folder and removes its socket folder. Idempotent. */
  release(): void;
}

/**
 * Creates the data folder unless it exists, and locks it.
 *
 * @throws StartError when it cannot be written, or when another run has locked it
 */
export function openDataFolder(folder: string): DataFolder {
  const path = resolve(folder);
  const logFolder = join(path, 'logs');
  const lock = createAndLock(path, logFolder);
  if (!lock.taken) {
    throw new StartError(
      `the data folder ${path} is in use by another npm start (pid ${lock.pid}): stop it, or choose another with --data`,
    );
  }
  let isReleased = false;
  return {
    path,
    logFolder,
    secretFolder: join(path, 'secrets'),
    postgresFolder: join(path, 'postgres'),
    pidsFile: join(path, 'pids.json'),
    queueNodesFile: join(path, 'queue-nodes'),
    release: () => {
      // After the first call the next run may hold the lock and use the same socket folder.
      if (isReleased) return;
      isReleased = true;
      rmSync(socketFolderOf(path), { recursive: true, force: true });
      lock.release();
    },
  };
}

function createAndLock(path: string, logFolder: string): LockResult {
  try {
    mkdirSync(logFolder, { recursive: true, mode: 0o700 });
    return takeLock(join(path, 'lock'));
  } catch (error) {
    throw new StartError(
      `cannot write to the data folder ${path} (${codeOf(error)}): choose another with --data`,
    );
  }
}

/**
 * Creates the folders of the frontends and returns the socket path of each one's Redis.
 *
 * A socket lies in its frontend's folder or, if that path is too long, in a folder of its own under the temporary folder.
 *
 * @param path absolute path of the data folder
 */
export function prepareFrontends(path: string, frontends: number): string[] {
  return Array.from({ length: frontends }, (_, index) => {
    const folder = frontendFolder(path, index + 1);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const socket = join(folder, 'redis.sock');
    if (isUsableSocketPath(socket)) return socket;
    return join(createSocketFolder(path), `${nodeName('frontend', index + 1)}.sock`);
  });
}

/** A comma would separate two entries of `QUEUE_NODES`. */
function isUsableSocketPath(socket: string): boolean {
  return Buffer.byteLength(socket) <= SOCKET_PATH_BYTES_MAX && !socket.includes(',');
}

function socketFolderOf(path: string): string {
  const hash = createHash('sha256').update(path).digest('hex').slice(0, 12);
  return join(tmpdir(), `turnout-${hash}`);
}

/** The temporary folder is writable by every user, so a folder that another user created is refused. */
function createSocketFolder(path: string): string {
  const folder = socketFolderOf(path);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const found = lstatSync(folder);
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new StartError(`${folder} belongs to another user: choose a shorter path with --data`);
  }
  chmodSync(folder, 0o700);
  return folder;
}

/** Returns the frontends of earlier runs that this run does not start; votes may still wait in their queues. */
export function idleFrontends(path: string, frontends: number): string[] {
  const active = new Set(Array.from({ length: frontends }, (_, index) => nodeName('frontend', index + 1)));
  return readdirSync(path)
    .filter((name) => FRONTEND_FOLDER.test(name) && !active.has(name))
    .toSorted();
}
