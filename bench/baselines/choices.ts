import type pg from 'pg';

/** Returns a function from poll and choice to their numbers, read once. */
export async function readChoiceNumbers(
  pool: pg.Pool,
): Promise<(poll: string, choice: string) => readonly [pollNo: number, choiceNo: number]> {
  const { rows } = await pool.query<{ poll: string; choice: string; poll_no: number; no: number }>(
    'select polls.id as poll, choices.id as choice, poll_no, choices.no from choices join polls on polls.no = poll_no',
  );
  const numbers = new Map(
    rows.map(({ poll, choice, poll_no, no }) => [`${poll} ${choice}`, [poll_no, no] as const]),
  );
  return (poll, choice) => {
    const found = numbers.get(`${poll} ${choice}`);
    if (!found) throw new RangeError(`no choice ${choice} in ${poll}`);
    return found;
  };
}
