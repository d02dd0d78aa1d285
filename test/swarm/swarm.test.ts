import { afterAll, beforeAll, describe, expect } from 'vitest';
import { Lab } from '../../stack/lab/lab.ts';
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

const lab = new Lab({
  frontends: 2,
  workers: 1,
  progress: (line) => console.log(line),
  // All voters of these tests have one address.
  settings: { POST_RATE_MAX: '0' },
});

beforeAll(() => lab.open(), OPEN_MS_MAX);
afterAll(async () => {
  await lab.close();
  expect(leftovers()).toEqual(NOTHING);
}, CLOSE_MS_MAX);

describe('voting', () => testVoting(lab));
describe('isolation', () => testIsolation(lab));
// While there are two of them: three times what more could take is more than one machine can offer.
describe('overload', () => testOverload(lab));
describe('change', () => testChange(lab));
describe('operation', () => testOperation(lab));
describe('aws', () => testAws(lab));
describe('labels', () => testLabels(lab));
describe('loss', () => testLoss(lab));
