import type { Awaited } from '#db/final.ts';

/** Sources or nodes named per sentence. */
const NAMED_MAX = 10;

/**
 * Returns in sentences why a closed poll is not final yet; none when it becomes final in a moment.
 *
 * @param nameOf returns a node's label for people by its id
 */
export function awaitedSentences(
  { nodes, unsealed, uncounted, unexplained }: Awaited,
  nameOf: (id: string) => string,
): string[] {
  const sentence = (items: readonly string[], one: string, many: string): string[] =>
    items.length === 0 ? [] : [`${listed(items)} ${items.length === 1 ? one : many}.`];
  return [
    ...sentence(
      nodes.map(nameOf),
      'was not read since the poll closed',
      'were not read since the poll closed',
    ),
    ...sentence(unsealed, 'has not sealed the poll', 'have not sealed the poll'),
    ...sentence(uncounted, 'has uncounted jobs', 'have uncounted jobs'),
    ...sentence(
      unexplained,
      'has receipts that differ from its ledger in votes',
      'have receipts that differ from their ledgers in votes',
    ),
  ];
}

function listed(items: readonly string[]): string {
  const shown = items.slice(0, NAMED_MAX).join(', ');
  const more = items.length - NAMED_MAX;
  return more > 0 ? `${shown} and ${more} more` : shown;
}
