/** Longest wait of a request for its vote to reach the disk. */
export const CAPTURE_MS_MAX = 2_000;

/** The largest `VOTES_PER_JOB_MAX` that a handler accepts. Workers must accept jobs of this size. */
export const VOTES_PER_JOB_CEILING = 5_000;
export const VOTES_PER_JOB_DEFAULT = 500;

/** The largest `CAPTURE_BUFFER_MAX` that a handler accepts. */
export const CAPTURE_BUFFER_CEILING = 1_000_000;
export const CAPTURE_BUFFER_DEFAULT = 10_000;

if (VOTES_PER_JOB_DEFAULT > VOTES_PER_JOB_CEILING || CAPTURE_BUFFER_DEFAULT > CAPTURE_BUFFER_CEILING) {
  throw new RangeError('the defaults of capture exceed their ceilings');
}
if (VOTES_PER_JOB_DEFAULT > CAPTURE_BUFFER_DEFAULT || VOTES_PER_JOB_CEILING > CAPTURE_BUFFER_CEILING) {
  throw new RangeError('a job must fit into the buffer: VOTES_PER_JOB_MAX <= CAPTURE_BUFFER_MAX');
}
