import { readConfig, type Setting, settings } from '#runtime/config.ts';
import { Secret } from '#runtime/secret.ts';

/** Settings that are the processes' own; a user of `npm start` may set them, and they are handed on as they are. */
const HANDED_ON = [
  settings.logLevel,
  settings.votesPerJobMax,
  settings.captureBufferMax,
  settings.voterAdmission,
  settings.webConcurrency,
] as const;

/** What `npm start` takes from its environment. */
export interface Environment {
  /** A Postgres to use instead of starting one. */
  readonly databaseUrl: Secret | undefined;
  readonly pollsFile: string | undefined;
  readonly noColor: boolean;
  /** All that a child gets whatever it is: `PATH`, `HOME`, and what is handed on. */
  readonly children: Readonly<Record<string, string>>;
}

/**
 * Reads the environment.
 *
 * @throws ConfigError listing every setting that no process would accept
 */
export function readEnvironment(environment?: NodeJS.ProcessEnv): Environment {
  const { databaseUrl, pollsFile, noColor, path, home } = readConfig(
    {
      databaseUrl: optional(settings.databaseUrl),
      pollsFile: optional(settings.pollsFile),
      noColor: optional({ name: 'NO_COLOR', parse: String }),
      path: optional({ name: 'PATH', parse: String }),
      home: optional({ name: 'HOME', parse: String }),
    },
    environment,
  );
  const handedOn = readConfig(
    Object.fromEntries(HANDED_ON.map((setting) => [setting.name, optional<unknown>(setting)])),
    environment,
  );
  return {
    databaseUrl: databaseUrl === undefined ? undefined : new Secret(databaseUrl),
    pollsFile,
    noColor: noColor !== undefined,
    children: present({ PATH: path, HOME: home, ...handedOn }),
  };
}

/** The setting's text, checked where it is set; no default, because the process that uses it has its own. */
function optional<T>({ name, parse }: Setting<T>): Setting<string | undefined> {
  return {
    name,
    fallback: '',
    parse: (text) => {
      if (text === '') return undefined;
      parse(text);
      return text;
    },
  };
}

function present(values: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}
