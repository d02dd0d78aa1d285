import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** A Swarm detects a dead machine after seconds, and an update waits for health checks. */
const SWARM_TEST_MS_MAX = 5 * 60_000;
/** Generous, so that a loaded machine fails no test. Every wait inside a test has a shorter deadline. */
const TEST_MS_MAX = 60_000;
/** Integration tests mostly wait for Redis, PostgreSQL, HAProxy and timers, so more files than processors run at once. */
const FILES_AT_ONCE = 4;

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
          maxWorkers: FILES_AT_ONCE,
        },
      },
      {
        test: {
          ...common,
          name: 'e2e',
          include: ['e2e/**/*.test.ts'],
          globalSetup: ['kit/global.ts'],
          // Whole systems, some of them under load: one at a time.
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
