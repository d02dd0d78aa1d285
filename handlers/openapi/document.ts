import { formatProblem } from '../web/problem.ts';
import { PROBLEMS, type ProblemCode, problem } from '../web/problems.ts';
import { DASHBOARD } from './dashboard.ts';
import { ISSUER } from './issuer.ts';
import {
  type Answer,
  type Content,
  type HandlerApi,
  HEADERS,
  type HeaderName,
  type Operation,
  REQUEST_HEADERS,
  SECURITY_SCHEMES,
} from './operation.ts';
import { RESULTS } from './results.ts';
import { bodySchemas, type JsonSchema, jsonSchemaOf, pollId, problemSchema } from './schemas.ts';
import { VOTE } from './vote.ts';

/** Every handler with an API. A new one is described in a file of its own and added here. */
const HANDLERS: readonly HandlerApi[] = [VOTE, ISSUER, RESULTS, DASHBOARD];

const DESCRIPTION = `Turnout captures votes in a flash crowd and counts every accepted one exactly once.

Each handler listens on a port of its own; on a Swarm the proxy routes a host to each, on ports 80 and 443. The pages for \
people (/ of each handler; /polls/{poll} of the results; /nodes/{node}, /anomalies and /queues of the dashboard) and the \
images on them (/images/{name} of the vote handler) are not part of the API. Every path that answers GET also answers HEAD.

Errors are problems (RFC 9457) with a stable code. A path or method that is not described gets \
not_found. The proxy in front of the handlers answers 429 (too_many) and 503 (no_backend) itself, with \
Retry-After. Bytes that are not HTTP, or that arrive too slowly, get a bare 400, 408 or 431.`;

const PATH_PARAMETERS: Readonly<Record<string, { readonly schema: JsonSchema; readonly example: string }>> = {
  poll: { schema: jsonSchemaOf(pollId), example: 'cats-vs-dogs' },
  receipt: { schema: { type: 'string' }, example: 'frontend01-k3x9abcdefghi.mh3k2a-x7.42' },
  code: { schema: { type: 'string' }, example: 'poll_closed' },
  node: { schema: { type: 'string', description: 'The id or the name of a node.' }, example: 'frontend01' },
};

/** Returns the API description of all handlers: an OpenAPI 3.1 document. */
export function describeApi(version: string) {
  const operations = HANDLERS.flatMap((handler) =>
    handler.operations.map((operation) => ({ handler, operation })),
  );
  const used = new Set(operations.flatMap(({ operation }) => problemsOf(operation)));
  const problems = (Object.keys(PROBLEMS) as ProblemCode[]).filter((code) => used.has(code));
  const paths: Record<string, Record<string, unknown>> = {};
  for (const { handler, operation } of operations) {
    if (paths[operation.path]) throw new Error(`two operations have the path ${operation.path}`);
    paths[operation.path] = {
      servers: [serverOf(handler)],
      [operation.method]: describeOperation(handler, operation),
    };
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Turnout',
      version,
      description: DESCRIPTION,
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: HANDLERS.map(serverOf),
    tags: HANDLERS.map(({ name, description }) => ({ name, description })),
    paths,
    components: {
      securitySchemes: SECURITY_SCHEMES,
      schemas: {
        ...bodySchemas(),
        ...Object.fromEntries(problems.map((code) => [problemName(code), problemSchema(code)])),
      },
      headers: Object.fromEntries(
        (Object.keys(HEADERS) as HeaderName[]).map((name) => [name, describeHeader(name, true)]),
      ),
      examples: Object.fromEntries(problems.map((code) => [code, problemExample(code)])),
    },
  };
}

function serverOf({ name, port }: HandlerApi) {
  return { url: `http://localhost:${port}`, description: `${name}, port ${port}` };
}

function describeOperation({ name }: HandlerApi, operation: Operation) {
  const { id, summary, description, path, security, requestHeaders = [], body } = operation;
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter = '']) => ({
    name: parameter,
    in: 'path',
    required: true,
    ...PATH_PARAMETERS[parameter],
  }));
  const inHeader = requestHeaders.map((header) => ({
    name: header,
    in: 'header',
    ...REQUEST_HEADERS[header],
  }));
  const parameters = [...inPath, ...inHeader];
  return {
    operationId: id,
    tags: [name],
    summary,
    description,
    ...(security && { security: security.map((scheme) => (scheme === 'none' ? {} : { [scheme]: [] })) }),
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: { required: true, content: describeContent(body) } }),
    responses: { ...describeAnswers(operation), ...describeProblems(operation) },
  };
}

function describeAnswers({ answers }: Operation) {
  return Object.fromEntries(
    Object.entries(answers).map(([status, { description, content, ...headers }]) => [
      status,
      {
        description,
        ...describeHeaders(headers),
        ...(content && { content: describeContent(content) }),
      },
    ]),
  );
}

/** Returns the problems of an operation by status, all codes of a status in one answer. */
function describeProblems(operation: Operation) {
  const byStatus = Map.groupBy(problemsOf(operation), (code) => PROBLEMS[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, list]) => {
      const schemas = list.map((code) => ({ $ref: `#/components/schemas/${problemName(code)}` }));
      const json = {
        schema: schemas.length === 1 ? schemas[0] : { oneOf: schemas },
        examples: Object.fromEntries(list.map((code) => [code, { $ref: `#/components/examples/${code}` }])),
      };
      const page = { schema: { type: 'string', description: 'A page with a message for the voter.' } };
      const { headers = [], headersAtTimes = [] } = operation.problemHeaders?.[status] ?? {};
      return [
        status,
        {
          description: list.map((code) => `${PROBLEMS[code].title} (${code})`).join(', '),
          ...describeHeaders({ headers: [...headersOf(status), ...headers], headersAtTimes }),
          content: { 'application/problem+json': json, ...(operation.hasPages && { 'text/html': page }) },
        },
      ];
    }),
  );
}

/** The headers of every problem of a status. */
function headersOf(status: number): readonly HeaderName[] {
  if (status === 401) return ['Cache-Control', 'WWW-Authenticate'];
  if (status === 405) return ['Cache-Control', 'Allow'];
  if (status === 429 || status === 503) return ['Cache-Control', 'Retry-After'];
  return ['Cache-Control'];
}

function describeHeaders({ headers = [], headersAtTimes = [] }: Pick<Answer, 'headers' | 'headersAtTimes'>) {
  const all = [
    ...headers.map((name) => [name, { $ref: `#/components/headers/${name}` }]),
    ...headersAtTimes.map((name) => [name, describeHeader(name, false)]),
  ];
  return all.length > 0 && { headers: Object.fromEntries(all) };
}

function describeHeader(name: HeaderName, required: boolean) {
  const schema = name === 'Retry-After' ? { type: 'string', pattern: '^[1-9][0-9]*$' } : { type: 'string' };
  return { description: HEADERS[name], required, schema };
}

function describeContent(content: Readonly<Record<string, Content>>) {
  return Object.fromEntries(
    Object.entries(content).map(([type, { schema, example }]) => [
      type,
      {
        schema: typeof schema === 'string' ? { $ref: `#/components/schemas/${schema}` } : schema,
        ...(example !== undefined && { example }),
      },
    ]),
  );
}

function problemsOf({ problems }: Operation): ProblemCode[] {
  return [...problems, 'internal'];
}

function problemName(code: ProblemCode): string {
  return `Problem.${code}`;
}

function problemExample(code: ProblemCode) {
  const { cause, remedy } = PROBLEMS[code];
  const value = JSON.parse(formatProblem(problem(code), 'https://results.example')) as unknown;
  return { summary: cause, description: remedy, value };
}
