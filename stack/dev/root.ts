import { join } from 'node:path';

/** The absolute path of the checkout. */
export const ROOT: string = join(import.meta.dirname, '../..');
