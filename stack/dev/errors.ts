/** A failure that the user can act on: the message is one line, `details` are the log lines behind it. */
export class StartError extends Error {
  override readonly name = 'StartError';
  readonly details: readonly string[];

  constructor(message: string, details: readonly string[] = []) {
    super(message);
    this.details = details;
  }
}

/** Returns the code of a system error (`EACCES`), or else its message. */
export function codeOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}
