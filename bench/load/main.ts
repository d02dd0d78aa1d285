import { type LoadGenerator, prepareLoad } from '#kit/load/generator.ts';
import type { LoadReply, LoadRequest } from './process.ts';

/** The process that generates the load: prepares a load on request, then runs it, then the next. */
let generator: LoadGenerator | undefined;

process.on('message', (message: LoadRequest) => {
  answer(message).then(
    (reply) => process.send?.(reply),
    (error: unknown) => process.send?.({ error: String(error) } satisfies LoadReply),
  );
});
// The bench has exited.
process.on('disconnect', () => process.exit(0));

async function answer(message: LoadRequest): Promise<LoadReply> {
  if ('prepare' in message) {
    generator = await prepareLoad(message.prepare);
    return { isPrepared: true };
  }
  if (!generator) throw new Error('run before prepare');
  return { result: await generator.run() };
}
