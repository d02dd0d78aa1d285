import { Hono } from 'hono';
import { readConfig, settings } from '#runtime/config.ts';
import { ACCEPTORS_FOR_A_CROWD, listen } from '#runtime/server.ts';

/** What every baseline does with a vote before it answers; gives what stands in the receipt. */
type Take = (poll: string, choice: string) => Promise<string> | string;

/**
 * Serves votes as simply as Hono can, on the same server as the vote handler and with an answer of the same size: the
 * body is parsed and nothing is checked. What a baseline does beyond that is its `take`.
 */
export async function serveVotes(take: Take): Promise<void> {
  const { port } = readConfig({ port: settings.port(8080) });
  const app = new Hono();
  app.post('/polls/:poll/votes', async (c) => {
    const { choice } = await c.req.json<{ choice: string }>();
    const poll = c.req.param('poll');
    const receipt = await take(poll, choice);
    return c.json({ status: 'accepted', poll, choice, castAt: CAST_AT, receipt }, 202);
  });
  await listen(app, port, { hostname: '127.0.0.1', acceptors: ACCEPTORS_FOR_A_CROWD });
}

/** Stands for the time in the answer, which costs the vote handler something and a baseline nothing. */
export const CAST_AT = '2026-11-22T12:00:00.000001Z';
/** Stands for the receipt where a baseline has none. */
export const RECEIPT = 'frontend01.mh3k2a-x7.42';
