import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** A Swarm takes its time: a machine that dies is noticed after seconds, an update waits for health. */
const SWARM_TEST_MS_MAX = 5 * 60_000;

/** Generous: a loaded machine must not make a test fail. Every wait inside the tests has a shorter deadline. */
const TEST_MS_MAX = 60_000;

const common = { root: import.meta.dirname, testTimeout: TEST_MS_MAX, hookTimeout: TEST_MS_MAX };

export default defineConfig({
  cacheDir: join(import.meta.dirname, '../node_modules/.vite'),
  test: {
    root: import.meta.dirname,
    projects: [
      { test: { ...common, name: 'unit', include: ['unit/**/*.test.ts'] } },
      {
        test: {
          ...common,
          name: 'integration',
          include: ['integration/**/*.test.ts'],
          globalSetup: ['kit/global.ts'],
        },
      },
      {
        test: {
          ...common,
          name: 'e2e',
          include: ['e2e/**/*.test.ts'],
          globalSetup: ['kit/global.ts'],
          // Whole systems: one after the other, so that each has the machine to itself.
          fileParallelism: false,
          testTimeout: 4 * TEST_MS_MAX,
          hookTimeout: 2 * TEST_MS_MAX,
        },
      },
      {
        test: {
          ...common,
          name: 'swarm',
          include: ['swarm/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: SWARM_TEST_MS_MAX,
        },
      },
    ],
  },
});
