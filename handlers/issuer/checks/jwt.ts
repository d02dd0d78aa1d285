import type { KeyObject } from 'node:crypto';
import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { BadCredentialsError, CHECK_MS_MAX, type Check, CheckUnavailableError } from './check.ts';

/** The clocks of the identity provider and of this process may differ by that much. */
const CLOCK_TOLERANCE_SECONDS = 5;
/** An unknown key id fetches the set again, at most once in this time, so that new keys are found and floods are not passed on. */
const KEY_SET_COOLDOWN_MS = 5_000;
/** A key that the provider has withdrawn is accepted for at most that long. */
const KEY_SET_AGE_MS_MAX = 600_000;

/** Codes of jose for a token that is at fault. All others mean that the key set could not be read. */
const TOKEN_FAULTS = new Set([
  errors.JWTExpired.code,
  errors.JWTClaimValidationFailed.code,
  errors.JWTInvalid.code,
  errors.JWSInvalid.code,
  errors.JWSSignatureVerificationFailed.code,
  errors.JOSEAlgNotAllowed.code,
  errors.JOSENotSupported.code,
  errors.JWKSNoMatchingKey.code,
  errors.JWKSMultipleMatchingKeys.code,
]);

export interface JwtCheckOptions {
  /** The URL of the provider's JWK set, or its public key. */
  readonly jwtKeys: URL | KeyObject;
  /** The claim `iss`. */
  readonly jwtIssuer: string;
  /** A member of the claim `aud`. */
  readonly jwtAudience: string;
}

/**
 * Returns a check of JWTs of an identity provider: signature, `iss`, `aud`, `exp`, `nbf` and `sub`. The keys are public ones,
 * for which jose accepts neither `none` nor an algorithm with a shared secret.
 */
export function createJwtCheck({ jwtKeys, jwtIssuer, jwtAudience }: JwtCheckOptions): Check {
  const isRemote = jwtKeys instanceof URL;
  const keys: JWTVerifyGetKey = isRemote
    ? createRemoteJWKSet(jwtKeys, {
        timeoutDuration: CHECK_MS_MAX,
        cooldownDuration: KEY_SET_COOLDOWN_MS,
        cacheMaxAge: KEY_SET_AGE_MS_MAX,
      })
    : () => jwtKeys;
  const options = {
    issuer: jwtIssuer,
    audience: jwtAudience,
    requiredClaims: ['sub', 'exp'],
    clockTolerance: CLOCK_TOLERANCE_SECONDS,
  };
  return async (credential) => {
    try {
      const { payload } = await jwtVerify(credential, keys, options);
      return loginOf(payload);
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      // With a key of its own, this process needs no other: a token that does not fit the key is at fault.
      if (isRemote && !TOKEN_FAULTS.has(code ?? '') && !(error instanceof BadCredentialsError)) {
        throw new CheckUnavailableError(`the JWK set cannot be used: ${message}`, { cause: error });
      }
      throw new BadCredentialsError(`the JWT is not valid (${code ?? 'sub must be a text'})`);
    }
  };
}

/** JSON, because two texts joined by a separator could equal two others. */
function loginOf({ iss, sub }: JWTPayload): string {
  if (typeof sub !== 'string' || sub === '') throw new BadCredentialsError('sub must be a text');
  return JSON.stringify([iss, sub]);
}
