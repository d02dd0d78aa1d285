import { afterAll, beforeAll, describe, expect } from 'vitest';
import { Cluster } from '#dev/cluster/cluster.ts';
import { testAws } from './aws.ts';
import { testControl } from './control.ts';
import { testChange, testLoss } from './failing.ts';
import { testIsolation } from './isolation.ts';
import { testLabels } from './labels.ts';
import { leftovers, NOTHING } from './leftovers.ts';
import { testOperation } from './operation.ts';
import { testOverload, VOTE_CONNECTIONS_MAX } from './overload.ts';
import { testVoting } from './voting.ts';

const OPEN_MS_MAX = 12 * 60_000;
const CLOSE_MS_MAX = 2 * 60_000;

const cluster = new Cluster({
  frontends: 2,
  workers: 1,
  progress: (line) => console.log(line),
  // All voters share one address, so the limit per address is off.
  settings: { POST_RATE_MAX: '0', VOTE_CONNECTIONS_MAX: String(VOTE_CONNECTIONS_MAX) },
});

beforeAll(() => cluster.open(), OPEN_MS_MAX);
afterAll(async () => {
  await cluster.close();
  expect(leftovers()).toEqual(NOTHING);
}, CLOSE_MS_MAX);

describe('voting', () => testVoting(cluster));
describe('isolation', () => testIsolation(cluster));
// Before frontends join: this machine cannot offer three times the capacity of more than two.
describe('overload', () => testOverload(cluster));
describe('change', () => testChange(cluster));
describe('operation', () => testOperation(cluster));
// After the scripts were run again without a change: it deploys polls of its own.
describe('control', () => testControl(cluster));
describe('aws', () => testAws(cluster));
describe('labels', () => testLabels(cluster));
describe('loss', () => testLoss(cluster));
