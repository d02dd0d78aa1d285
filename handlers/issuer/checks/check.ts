/** Longest time that a check may take. */
export const CHECK_MS_MAX = 3_000;

/**
 * Decides whether someone gets a token. It takes at most `CHECK_MS_MAX`.
 *
 * @param credential what the client presents as its proof, any text
 * @returns the login that the credential proves, unique among all logins; `undefined` when it proves no identity
 * @throws BadCredentialsError or CheckUnavailableError
 */
export type Check = (credential: string) => Promise<string | undefined>;

/** The credential is not valid. The message is for the client's developer; it must not repeat the credential. */
export class BadCredentialsError extends Error {
  override readonly name = 'BadCredentialsError';
}

/** The check has no answer, so no token is issued. The message is for the log. */
export class CheckUnavailableError extends Error {
  override readonly name = 'CheckUnavailableError';
}
