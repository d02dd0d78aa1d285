type LogLevel = 'debug' | 'info' | 'warn' | 'error';

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** How often a message that repeats may be written: a fault that lasts must not fill a disk. */
const REPEAT_INTERVAL_MS = 10_000;

type Fields = Readonly<Record<string, unknown>>;

/** Writes one JSON object a line: `time`, `level`, `process`, `message`, and the fields of the event. */
export interface Log {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** Like `warn`, but the same `message` at most every 10 s, with the number of those left out in between. */
  repeated(message: string, fields?: Fields): void;
  /** From now on writes nothing below this level. */
  setLevel(level: LogLevel): void;
}

/**
 * Makes the log of a process.
 *
 * @param process the name under which its lines appear
 * @param write takes finished lines; standard output unless a test wants to see them
 */
export function createLog(
  process: string,
  write: (line: string) => void = (line) => globalThis.process.stdout.write(line),
): Log {
  let least: LogLevel = 'info';
  const repeats = new Map<string, { writtenAt: number; leftOut: number }>();

  const emit = (level: LogLevel, message: string, fields: Fields = {}): void => {
    if (RANK[level] < RANK[least]) return;
    const time = new Date().toISOString();
    write(`${JSON.stringify({ time, level, process, message, ...fields }, showErrors)}\n`);
  };

  return {
    debug: (message, fields) => emit('debug', message, fields),
    info: (message, fields) => emit('info', message, fields),
    warn: (message, fields) => emit('warn', message, fields),
    error: (message, fields) => emit('error', message, fields),
    repeated: (message, fields) => {
      const now = Date.now();
      const last = repeats.get(message);
      if (last && now - last.writtenAt < REPEAT_INTERVAL_MS) {
        last.leftOut += 1;
        return;
      }
      emit('warn', message, last?.leftOut ? { ...fields, leftOut: last.leftOut } : fields);
      repeats.set(message, { writtenAt: now, leftOut: 0 });
    },
    setLevel: (level) => {
      least = level;
    },
  };
}

function showErrors(_key: string, value: unknown): unknown {
  if (value instanceof Error) {
    const { name, message, stack } = value;
    const code = (value as NodeJS.ErrnoException).code;
    return { name, message, code, stack };
  }
  return typeof value === 'bigint' ? String(value) : value;
}
