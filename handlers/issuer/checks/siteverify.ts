import { readBody } from '#handlers/vote/request.ts';
import type { Challenge } from '#runtime/challenges.ts';
import type { Secret } from '#runtime/secret.ts';
import { BadCredentialsError, CHECK_MS_MAX, type Check, CheckUnavailableError } from './check.ts';

/** Far above any verdict. */
const VERDICT_BYTES_MAX = 65_536;

/** Codes for an answer that is at fault. Any other, such as a wrong secret, is a fault of ours or of the service. */
const ANSWER_FAULTS = new Set([
  // Turnstile and hCaptcha
  'missing-input-response',
  'invalid-input-response',
  'timeout-or-duplicate',
  'expired-input-response',
  'already-seen-response',
  'invalid-or-already-seen-response',
  // Friendly Captcha
  'response_missing',
  'response_invalid',
  'response_timeout',
  'response_duplicate',
]);

export interface SiteverifyCheckOptions {
  readonly challenge: Challenge;
  readonly secret: Secret;
  /** Replaces the service's own. */
  readonly url?: URL | undefined;
}

/** Returns a check of answers to a challenge. An answer proves that somebody solved it, once, and no identity. */
export function createSiteverifyCheck({ challenge, secret, url }: SiteverifyCheckOptions): Check {
  const { service, sitekey } = challenge;
  const endpoint = url ?? service.verifyUrl;
  return async (credential) => {
    const fields = new URLSearchParams({ response: credential });
    if (service.takesSitekey) fields.set('sitekey', sitekey);
    if (service.secretIn === 'form') fields.set('secret', secret.reveal());
    let verdict: unknown;
    let status: number;
    try {
      const response = await fetch(endpoint, {
        method: 'POST',
        body: fields,
        headers: service.secretIn === 'header' ? { 'X-API-Key': secret.reveal() } : {},
        // The secret goes nowhere else.
        redirect: 'error',
        signal: AbortSignal.timeout(CHECK_MS_MAX),
      });
      status = response.status;
      const text = await readBody(response.body, VERDICT_BYTES_MAX);
      verdict = JSON.parse(text ?? '');
    } catch (error) {
      throw new CheckUnavailableError(`no verdict: ${reasonOf(error)}`);
    }
    judge(status, verdict);
    return undefined;
  };
}

/** @throws BadCredentialsError or CheckUnavailableError unless the verdict is a success */
function judge(status: number, verdict: unknown): void {
  const { success, ...more } = (verdict ?? {}) as Readonly<Record<string, unknown>>;
  if (success === true && status === 200) return;
  const codes = codesOf(more);
  if (success === false && status < 500 && codes.every((code) => ANSWER_FAULTS.has(String(code)))) {
    throw new BadCredentialsError('the challenge is not solved, or its answer was used before');
  }
  throw new CheckUnavailableError(`no verdict: status ${status}, codes ${codes.join(', ') || 'none'}`);
}

function codesOf(verdict: Readonly<Record<string, unknown>>): readonly unknown[] {
  const codes = verdict['error-codes'];
  if (Array.isArray(codes)) return codes;
  const { error_code: code } = (verdict['error'] ?? {}) as { error_code?: unknown };
  return code === undefined ? [] : [code];
}

/** `fetch` puts the reason of a failed connection into the cause. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error & { cause?: { code?: string } };
  return cause?.code ?? message;
}
