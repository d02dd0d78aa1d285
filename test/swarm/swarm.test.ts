import { afterAll, beforeAll, describe, expect } from 'vitest';
import { Cluster } from '#dev/cluster/cluster.ts';
import { testAws } from './aws.ts';
import { testChange, testLoss } from './failing.ts';
import { testIsolation } from './isolation.ts';
import { testLabels } from './labels.ts';
import { leftovers, NOTHING } from './leftovers.ts';
import { testOperation } from './operation.ts';
import { testOverload } from './overload.ts';
import { testVoting } from './voting.ts';

const OPEN_MS_MAX = 12 * 60_000;
const CLOSE_MS_MAX = 2 * 60_000;

const cluster = new Cluster({
  frontends: 2,
  workers: 1,
  progress: (line) => console.log(line),
  // All voters of these tests have one address.
  settings: { POST_RATE_MAX: '0' },
});

beforeAll(() => cluster.open(), OPEN_MS_MAX);
afterAll(async () => {
  await cluster.close();
  expect(leftovers()).toEqual(NOTHING);
}, CLOSE_MS_MAX);

describe('voting', () => testVoting(cluster));
describe('isolation', () => testIsolation(cluster));
// While there are two of them: three times what more could take is more than one machine can offer.
describe('overload', () => testOverload(cluster));
describe('change', () => testChange(cluster));
describe('operation', () => testOperation(cluster));
describe('aws', () => testAws(cluster));
describe('labels', () => testLabels(cluster));
describe('loss', () => testLoss(cluster));
