import { RECEIPT, serveVotes } from './server.ts';

/** `empty` with a deliberate cost: it computes for `BUSY_US` microseconds per vote. */
// The bench's own setting of its own program.
const busyMs = Number(process.env['BUSY_US']) / 1_000;

await serveVotes(() => {
  const until = performance.now() + busyMs;
  while (performance.now() < until);
  return RECEIPT;
});
