import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { codeOf, StartError } from '../errors.ts';
import { type LockResult, takeLock } from '../lock.mjs';
import { frontendFolder, nodeName } from './plan.ts';
import { SOCKET_PATH_BYTES_MAX } from './redis.ts';

const FRONTEND_FOLDER = /^frontend\d{2}$/;

/** The folder that outlives a run, and ours alone while we hold it. */
export interface DataFolder {
  /** Absolute. */
  readonly path: string;
  readonly logFolder: string;
  readonly secretFolder: string;
  readonly postgresFolder: string;
  readonly pidsFile: string;
  /** The queue of every frontend that ever ran on the folder, as `QUEUE_NODES` wants them; `npm run audit` reads it. */
  readonly queueNodesFile: string;
  /** Gives the folder back and removes what lies elsewhere. Can be called twice. */
  release(): void;
}

/**
 * Makes the data folder, unless it is there, and locks it.
 *
 * @throws StartError when it cannot be written, or when another run has it
 */
export function openDataFolder(typed: string): DataFolder {
  const path = resolve(typed);
  const logFolder = join(path, 'logs');
  const lock = makeAndLock(path, logFolder);
  if (!lock.taken) {
    throw new StartError(`the data folder ${path} is in use by another npm start (pid ${lock.pid})`);
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
      // The next run may hold it already, and use the same folder for its sockets.
      if (isReleased) return;
      isReleased = true;
      rmSync(socketFolderOf(path), { recursive: true, force: true });
      lock.release();
    },
  };
}

function makeAndLock(path: string, logFolder: string): LockResult {
  try {
    mkdirSync(logFolder, { recursive: true, mode: 0o700 });
    return takeLock(join(path, 'lock'));
  } catch (error) {
    throw new StartError(`the data folder ${path} cannot be used (${codeOf(error)})`);
  }
}

/**
 * Makes the folders of the frontends and says where the socket of each one's Redis goes: into that folder, or where its
 * path is too long for a socket, into a short one of our own among the temporary files.
 *
 * @param path of the data folder, absolute
 * @returns the sockets, one a frontend
 */
export function prepareFrontends(path: string, frontends: number): string[] {
  return Array.from({ length: frontends }, (_, index) => {
    const folder = frontendFolder(path, index + 1);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const socket = join(folder, 'redis.sock');
    if (isGoodSocketPath(socket)) return socket;
    return join(makeSocketFolder(path), `${nodeName('frontend', index + 1)}.sock`);
  });
}

/** A comma would end the entry in `QUEUE_NODES`. */
function isGoodSocketPath(socket: string): boolean {
  return Buffer.byteLength(socket) <= SOCKET_PATH_BYTES_MAX && !socket.includes(',');
}

function socketFolderOf(path: string): string {
  const hash = createHash('sha256').update(path).digest('hex').slice(0, 12);
  return join(tmpdir(), `turnout-${hash}`);
}

/** Everybody may write among the temporary files: a folder that somebody else laid there is refused. */
function makeSocketFolder(path: string): string {
  const folder = socketFolderOf(path);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const found = lstatSync(folder);
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new StartError(`${folder} belongs to somebody else: choose a shorter path with --data`);
  }
  chmodSync(folder, 0o700);
  return folder;
}

/** Frontends of an earlier run that this one leaves out; votes may still wait in their queues. */
export function idleFrontends(path: string, frontends: number): string[] {
  const active = new Set(Array.from({ length: frontends }, (_, index) => nodeName('frontend', index + 1)));
  return readdirSync(path)
    .filter((name) => FRONTEND_FOLDER.test(name) && !active.has(name))
    .toSorted();
}
