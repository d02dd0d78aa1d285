import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';

/** What a stand-in answers with instead of its result. */
export type TestFault = 'error' | 'nonsense' | 'silence';

const AUDIENCE = 'the-show';
const ELSEWHERE = '/elsewhere';

/** A stand-in of an identity provider: it signs JWTs and serves its JWK set. */
export interface TestProvider {
  readonly issuer: string;
  readonly audience: string;
  /** The settings of an issuer that trusts this provider. */
  readonly env: Readonly<Record<string, string>>;
  fault: TestFault | undefined;
  /** Returns a JWT with valid claims, except for `claims`; `undefined` omits a claim. */
  sign(claims?: { readonly [claim: string]: unknown }, key?: TestKey): Promise<string>;
  /** Replaces the key of the set by a new one. */
  rotate(): Promise<void>;
  close(): Promise<void>;
}

export interface TestKey {
  readonly kid: string;
  readonly privateKey: CryptoKey;
  readonly jwk: JWK;
}

export async function createKey(algorithm = 'ES256'): Promise<TestKey> {
  const { privateKey, publicKey } = await generateKeyPair(algorithm, { extractable: true });
  const kid = randomUUID();
  return { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg: algorithm, use: 'sig' } };
}

export async function startProvider(): Promise<TestProvider> {
  let key = await createKey();
  const { url, close } = await serve((_request, response) => {
    if (provider.fault === 'silence') return;
    if (provider.fault === 'error') response.writeHead(500);
    response.end(provider.fault === 'nonsense' ? '{"keys":1}' : JSON.stringify({ keys: [key.jwk] }));
  });
  const issuer = `${url}/`;
  const provider: TestProvider = {
    issuer,
    audience: AUDIENCE,
    env: { JWT_KEYS: `${url}/jwks`, JWT_ISSUER: issuer, JWT_AUDIENCE: AUDIENCE },
    fault: undefined,
    sign: (claims = {}, { kid, jwk, privateKey } = key) => {
      const seconds = Math.floor(Date.now() / 1_000);
      const valid = { iss: issuer, aud: AUDIENCE, sub: 'ann', iat: seconds, exp: seconds + 60 };
      return new SignJWT({ ...valid, ...claims })
        .setProtectedHeader({ alg: jwk.alg ?? '', kid })
        .sign(privateKey);
    },
    rotate: async () => {
      key = await createKey();
    },
    close,
  };
  return provider;
}

/** A request to a stand-in of a siteverify service. */
interface Verification {
  readonly fields: Readonly<Record<string, string>>;
  readonly apiKey: string | undefined;
}

/** A stand-in of a siteverify service. It accepts each answer that `solve` has returned, once. */
export interface TestSiteverify {
  readonly url: string;
  readonly requests: Verification[];
  /** The verdict to answer with, or a fault; `redirect` to an address that accepts every solved answer. */
  verdict: object | TestFault | 'redirect' | undefined;
  solve(): string;
  close(): Promise<void>;
}

export async function startSiteverify(): Promise<TestSiteverify> {
  const solved = new Set<string>();
  const requests: Verification[] = [];
  const { url, close } = await serve(async (request, response) => {
    const fields = Object.fromEntries(new URLSearchParams(await text(request)));
    requests.push({ fields, apiKey: request.headers['x-api-key'] as string | undefined });
    const { verdict } = service;
    if (verdict === 'silence') return;
    if (verdict === 'error') response.writeHead(500);
    if (verdict === 'redirect' && request.url !== ELSEWHERE) {
      response.writeHead(307, { Location: ELSEWHERE }).end();
      return;
    }
    const success = solved.delete(fields['response'] ?? '');
    const own = success ? { success } : { success, 'error-codes': ['timeout-or-duplicate'] };
    response.end(
      verdict === 'nonsense' ? '<html>' : JSON.stringify(typeof verdict === 'object' ? verdict : own),
    );
  });
  const service: TestSiteverify = {
    url: `${url}/siteverify`,
    requests,
    verdict: undefined,
    solve: () => {
      const answer = randomUUID();
      solved.add(answer);
      return answer;
    },
    close,
  };
  return service;
}

async function serve(listener: RequestListener): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
