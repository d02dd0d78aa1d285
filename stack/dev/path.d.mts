export const NO_REDIS_SERVER: string;
export function findProgram(name: string): string | undefined;
export function findRedisServer(): string | undefined;
