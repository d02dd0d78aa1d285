import type { Transaction } from 'kysely';
import type { Db } from './client.ts';
import type { Database } from './schema.ts';

/** Images by name, which is a hash of the content: what has a name never changes. */
type Images = ReadonlyMap<string, Uint8Array>;

/** Returns those of the images that are stored. */
export async function readImages(db: Db, names: readonly string[]): Promise<Images> {
  const rows = await db.selectFrom('images').selectAll().where('name', 'in', names).execute();
  return new Map(rows.map(({ name, bytes }) => [name, bytes]));
}

/** Stores images, and deletes those that no choice names. */
export async function storeImages(trx: Transaction<Database>, images: Images): Promise<void> {
  const rows = Array.from(images, ([name, bytes]) => ({ name, bytes }));
  if (rows.length > 0) {
    await trx
      .insertInto('images')
      .values(rows)
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
  await trx
    .deleteFrom('images')
    .where('name', 'not in', (eb) =>
      eb
        .selectFrom('choices')
        .select('image')
        .where('image', 'is not', null)
        .$narrowType<{ image: string }>(),
    )
    .execute();
}
