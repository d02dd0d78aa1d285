/** Something that the user can mend; the message is all they need to know. */
export class BenchError extends Error {
  override readonly name = 'BenchError';
}
