import { RECEIPT, serveVotes } from './server.ts';

/** The ceiling: takes nothing, keeps nothing. */
await serveVotes(() => RECEIPT);
