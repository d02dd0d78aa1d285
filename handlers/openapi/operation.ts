import type { ProblemCode } from '../web/problems.ts';
import type { JsonSchema, SchemaName } from './schemas.ts';

/** The headers that answers document. The values are descriptions. */
export const HEADERS = {
  Allow: 'The method that the path accepts.',
  'Cache-Control': 'Whether and for how long the answer may be cached.',
  'Content-Disposition': 'The name of the file.',
  'Content-Encoding': 'How the body is compressed, if Accept-Encoding allows it.',
  ETag: 'The entity tag of the answer. Send it as If-None-Match to get 304 while nothing has changed.',
  Location: 'The address of the receipt, of the page to show, or of the dashboard.',
  Refresh: 'Whole seconds after which a browser loads the page again, until it can change no more.',
  'Retry-After': 'Whole seconds to wait, with jitter, before the same request is sent again.',
  'Set-Cookie':
    "The voter's token, in the cookie turnout_voter. Send it with the next vote of the same voter.",
  Vary: 'The request headers that the answer depends on.',
  'WWW-Authenticate': 'The scheme of authentication.',
  'X-Accel-Buffering': 'Keeps proxies from buffering events.',
} as const;

export type HeaderName = keyof typeof HEADERS;

/** The request headers that operations read, besides those of HTTP itself. */
export const REQUEST_HEADERS = {
  'Idempotency-Key': {
    description:
      'Without a token, votes with the same key are those of one voter, on every frontend. 16 to 64 visible ASCII characters, best a random one per voter; quotes around it are allowed.',
    schema: { type: 'string', pattern: '^("?)[!#-\\[\\]-~]{16,64}\\1$' },
    example: '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
  },
} as const;

type RequestHeaderName = keyof typeof REQUEST_HEADERS;

/** The content of a body: a schema by name or inline, and an example. */
export interface Content {
  readonly schema: SchemaName | JsonSchema;
  readonly example?: unknown;
}

/** An answer other than a problem. */
export interface Answer {
  readonly description: string;
  readonly headers?: readonly HeaderName[];
  /** Headers that only some of these answers have. */
  readonly headersAtTimes?: readonly HeaderName[];
  readonly content?: Readonly<Record<string, Content>>;
}

/** One route of a handler. */
export interface Operation {
  readonly method: 'get' | 'post';
  readonly path: string;
  readonly id: string;
  readonly summary: string;
  readonly description: string;
  /** Names of security schemes, any of which suffices; `none` permits requests without one. */
  readonly security?: readonly (SecurityScheme | 'none')[];
  /** Names of optional request headers. */
  readonly requestHeaders?: readonly RequestHeaderName[];
  readonly body?: Readonly<Record<string, Content>>;
  readonly answers: Readonly<Record<number, Answer>>;
  /** The codes of the problems that it answers with, besides `internal`. */
  readonly problems: readonly ProblemCode[];
  /** Headers that problems of a status have besides those of every problem. */
  readonly problemHeaders?: Readonly<Record<number, Pick<Answer, 'headers' | 'headersAtTimes'>>>;
  /** Whether browsers get a page instead of JSON. */
  readonly hasPages?: boolean;
}

/** The API of one handler. */
export interface HandlerApi {
  readonly name: string;
  readonly description: string;
  readonly port: number;
  readonly operations: readonly Operation[];
}

export const SECURITY_SCHEMES = {
  voterCookie: {
    type: 'apiKey',
    in: 'cookie',
    name: 'turnout_voter',
    description: "The voter's token, which the first vote or the page sets. Browsers send it by themselves.",
  },
  voterToken: { type: 'http', scheme: 'bearer', description: "The voter's token, for programs." },
  operator: {
    type: 'http',
    scheme: 'basic',
    description: 'Name and password of an operator, see DASHBOARD_USERS.',
  },
} as const;

type SecurityScheme = keyof typeof SECURITY_SCHEMES;
