import { RECEIPT, serveVotes } from './server.ts';

/** The upper bound with Hono: parses the vote and stores nothing. */
await serveVotes(() => RECEIPT);
