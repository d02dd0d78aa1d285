/** The system cannot be started, for a reason that one line tells. `details` is for the log lines behind it. */
export class StartError extends Error {
  override readonly name = 'StartError';
  readonly details: readonly string[];

  constructor(message: string, details: readonly string[] = []) {
    super(message);
    this.details = details;
  }
}

/** The code of a system error (`EACCES`), or what else is known of it. */
export function codeOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}
