type LogLevel = 'debug' | 'info' | 'warn' | 'error';

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** Shortest interval between repetitions of a message, so that a lasting fault does not fill the disk. */
const REPEAT_INTERVAL_MS = 10_000;

type Fields = Readonly<Record<string, unknown>>;

/** Writes JSON lines with `time`, `level`, `process`, `message` and the fields of the event. */
export interface Log {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** Like `warn`, but writes the same `message` at most every 10 s; `suppressed` counts those in between. */
  repeated(message: string, fields?: Fields): void;
  /** Sets the lowest level that is written. */
  setLevel(level: LogLevel): void;
}

/**
 * Creates the log of a process.
 *
 * @param process value of the field `process`
 * @param write receives finished lines; standard output by default
 */
export function createLog(
  process: string,
  write: (line: string) => void = (line) => globalThis.process.stdout.write(line),
): Log {
  let threshold: LogLevel = 'info';
  const repeats = new Map<string, { writtenAt: number; suppressed: number }>();

  const emit = (level: LogLevel, message: string, fields: Fields = {}): void => {
    if (RANK[level] < RANK[threshold]) return;
    const time = new Date().toISOString();
    write(`${JSON.stringify({ time, level, process, message, ...fields }, serializeValue)}\n`);
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
        last.suppressed += 1;
        return;
      }
      emit('warn', message, last?.suppressed ? { ...fields, suppressed: last.suppressed } : fields);
      repeats.set(message, { writtenAt: now, suppressed: 0 });
    },
    setLevel: (level) => {
      threshold = level;
    },
  };
}

function serializeValue(_key: string, value: unknown): unknown {
  if (value instanceof Error) {
    const { name, message, stack } = value;
    const code = (value as NodeJS.ErrnoException).code;
    return { name, message, code, stack };
  }
  return typeof value === 'bigint' ? String(value) : value;
}
