import { type PreparedLoad, prepareLoad } from './generator.ts';
import type { FromLoad, ToLoad } from './order.ts';

/** The load's own process: takes an order, connects, waits for the word, sends what came of it, takes the next. */
let prepared: PreparedLoad | undefined;

process.on('message', (message: ToLoad) => {
  answer(message).then(
    (reply) => process.send?.(reply),
    (error: unknown) => process.send?.({ error: String(error) } satisfies FromLoad),
  );
});
// The bench is gone: nobody needs us.
process.on('disconnect', () => process.exit(0));

async function answer(message: ToLoad): Promise<FromLoad> {
  if ('order' in message) {
    prepared = await prepareLoad(message.order);
    return { connected: true };
  }
  if (!prepared) throw new Error('nothing is prepared');
  return { result: await prepared.run() };
}
