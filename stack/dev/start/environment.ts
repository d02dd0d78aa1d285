import { readConfig, type Setting, settings } from '#runtime/config.ts';
import { Secret } from '#runtime/secret.ts';

/** Settings of the issuer, which checks them itself. They hold secrets, so no other process gets them. */
const ISSUER_SETTINGS = [
  settings.challenge,
  settings.siteverifySecret,
  settings.siteverifyUrl,
  settings.jwtKeys,
  settings.jwtIssuer,
  settings.jwtAudience,
  settings.tokenOrigins,
  settings.tokenRateMax,
] as const;

/** Settings of the child processes that the user may set; they are passed through unchanged. */
const PASSED_THROUGH = [
  settings.logLevel,
  settings.votesPerJobMax,
  settings.captureBufferMax,
  settings.voterAdmission,
  settings.webConcurrency,
] as const;

/** What `npm start` reads from its environment. */
export interface Environment {
  /** An existing Postgres to use; without one, `npm start` starts its own. */
  readonly databaseUrl: Secret | undefined;
  readonly pollsFile: string | undefined;
  readonly noColor: boolean;
  /** The environment of every child: `PATH`, `HOME`, and the settings that are passed through. */
  readonly children: Readonly<Record<string, string>>;
  /** The issuer's further environment; `undefined` unless VOTER_ADMISSION is `issued`. */
  readonly issuer: Readonly<Record<string, string>> | undefined;
}

/**
 * Reads the environment.
 *
 * @throws ConfigError that lists every invalid setting
 */
export function readEnvironment(environment: NodeJS.ProcessEnv = process.env): Environment {
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
  const passedThrough = readConfig(
    Object.fromEntries(PASSED_THROUGH.map((setting) => [setting.name, optional<unknown>(setting)])),
    environment,
  );
  return {
    databaseUrl: databaseUrl === undefined ? undefined : new Secret(databaseUrl),
    pollsFile,
    noColor: noColor !== undefined,
    children: present({ PATH: path, HOME: home, ...passedThrough }),
    issuer: passedThrough['VOTER_ADMISSION'] === 'issued' ? readIssuer(environment) : undefined,
  };
}

function readIssuer(environment: NodeJS.ProcessEnv): Record<string, string> {
  const names = ISSUER_SETTINGS.flatMap(({ name }) => [name, `${name}_FILE`]);
  return present(Object.fromEntries(names.map((name) => [name, environment[name]])));
}

/** Returns a setting that validates its text but keeps it as text, without a default: the child has its own. */
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
