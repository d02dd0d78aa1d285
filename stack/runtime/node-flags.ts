/**
 * The Node flags of the vote handler: V8's young generation in MiB per semi-space. By default it starts far smaller and
 * grows late, so each vote that waits for its fsync is copied by many scavenges. V8 reads these flags on the command line
 * only. `cluster` passes them on to its child processes.
 */
export const VOTE_NODE_FLAGS: readonly string[] = ['--min-semi-space-size=32', '--max-semi-space-size=64'];
