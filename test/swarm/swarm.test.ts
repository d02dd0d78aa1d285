import { afterAll, beforeAll, describe } from 'vitest';
import { Lab } from '../../stack/lab/lab.ts';
import { testChange, testLoss } from './failing.ts';
import { testIsolation } from './isolation.ts';
import { testVoting } from './voting.ts';

const OPEN_MS_MAX = 12 * 60_000;
const CLOSE_MS_MAX = 2 * 60_000;

const lab = new Lab({ frontends: 2, workers: 1, progress: (line) => console.log(line) });

beforeAll(() => lab.open(), OPEN_MS_MAX);
afterAll(() => lab.close(), CLOSE_MS_MAX);

describe('voting', () => testVoting(lab));
describe('isolation', () => testIsolation(lab));
describe('change', () => testChange(lab));
describe('loss', () => testLoss(lab));
