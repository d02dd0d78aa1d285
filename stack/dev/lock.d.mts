export function identityOf(pid: number): string | undefined;

export type LockResult =
  | { readonly taken: true; readonly release: () => void }
  | { readonly taken: false; readonly pid: number };

export function takeLock(path: string): LockResult;
