import { explore } from './explore.ts';
import { protocol } from './protocol.ts';
import type { Mutant, Scope } from './state.ts';

/**
 * `npm run test:model`: explores every state of the finality protocol in several small scopes, then every mutant in the
 * scope that must find it. Exits 1 when a scope is violated or a mutant is not found.
 */

const STATES_MAX = 6_000_000;

const BASE: Scope = {
  nodes: 1,
  sourcesPerNode: 2,
  jobsPerSource: 1,
  extensions: 0,
  splitCommits: 0,
  canFold: false,
  canRetire: false,
  canWriteOff: false,
};

/** Each scope with the mutants that must be found in it. */
const SCOPES: readonly {
  readonly name: string;
  readonly scope: Scope;
  readonly mutants: readonly Mutant[];
}[] = [
  {
    name: 'two sources on a node',
    scope: BASE,
    mutants: [
      'enrol-stale',
      'no-enrolment',
      'never-read',
      'read-without-push',
      'no-register',
      'polls-unread',
      'fence-unasked',
      'seal-early',
      'count-fenced',
      'no-fence-wait',
      'no-receipts',
    ],
  },
  {
    name: 'two jobs of a source',
    scope: { ...BASE, sourcesPerNode: 1, jobsPerSource: 2 },
    mutants: ['fence-lowered'],
  },
  { name: 'two nodes', scope: { ...BASE, nodes: 2, sourcesPerNode: 1 }, mutants: [] },
  {
    name: 'an extension after seals',
    scope: { ...BASE, sourcesPerNode: 1, jobsPerSource: 2, extensions: 1 },
    mutants: ['seal-any-revision', 'push-backwards', 'proof-any-revision'],
  },
  {
    name: 'commits in three steps, with fold',
    scope: { ...BASE, sourcesPerNode: 1, jobsPerSource: 2, splitCommits: 2, canFold: true },
    mutants: ['commit-unlocked'],
  },
  {
    name: 'a node that is written off',
    scope: { ...BASE, sourcesPerNode: 1, splitCommits: 1, canWriteOff: true },
    mutants: ['final-unlocked'],
  },
  {
    name: 'a node that is retired and returns',
    scope: { ...BASE, sourcesPerNode: 1, canRetire: true },
    mutants: ['register-unchecked', 'retire-unfenced', 'retire-missing'],
  },
];

let failures = 0;
const report = (isGood: boolean, text: string): void => {
  if (!isGood) failures += 1;
  console.log(`${isGood ? 'ok     ' : 'FAILED '} ${text}`);
};

for (const { name, scope, mutants } of SCOPES) {
  const startedAt = performance.now();
  const result = explore(protocol(scope), STATES_MAX);
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  if (result.holds) {
    report(
      result.goals > 0,
      `${name}: holds in ${result.states} states, ${result.goals} of them final (${seconds} s)`,
    );
  } else {
    report(false, `${name}: ${result.violation}\n  ${result.path.join('\n  ')}`);
  }
  for (const mutant of mutants) {
    const found = explore(protocol(scope, mutant), STATES_MAX);
    report(
      !found.holds,
      found.holds
        ? `  ${mutant}: not found in ${found.states} states`
        : `  ${mutant}: found after ${found.path.length} steps: ${found.violation}`,
    );
  }
}
process.exitCode = failures === 0 ? 0 : 1;
