import { Hono } from 'hono';
import { readConfig, settings } from '#runtime/config.ts';
import { ACCEPTORS_FOR_A_CROWD, listen } from '#runtime/server.ts';

/** Stores a vote and returns its receipt. */
type StoreVote = (poll: string, choice: string) => Promise<string> | string;

/**
 * Serves votes with a minimal Hono app, on the same server as the vote handler and with an answer of the same size. It
 * parses the body, validates and signs nothing, and leaves the rest to `store`.
 */
export async function serveVotes(store: StoreVote): Promise<void> {
  const { port } = readConfig({ port: settings.port(8080) });
  const app = new Hono();
  app.post('/polls/:poll/votes', async (c) => {
    const { choice } = await c.req.json<{ choice: string }>();
    const poll = c.req.param('poll');
    const receipt = await store(poll, choice);
    return c.json({ status: 'accepted', poll, choice, castAt: CAST_AT, receipt }, 202);
  });
  await listen(app, port, { hostname: '127.0.0.1', acceptors: ACCEPTORS_FOR_A_CROWD });
}

/** A constant `castAt`: the vote handler formats one per vote, a baseline does not. */
export const CAST_AT = '2026-11-22T12:00:00.000001Z';
/** A constant receipt, for baselines that have none. */
export const RECEIPT = 'frontend01.mh3k2a-x7.42';
