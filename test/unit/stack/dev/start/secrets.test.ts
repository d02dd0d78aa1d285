import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSecrets, writeSecret } from '#dev/start/secrets.ts';
import { scratchFolder } from '#kit/process.ts';

let folder: Awaited<ReturnType<typeof scratchFolder>>;
beforeAll(async () => {
  folder = await scratchFolder();
});
afterAll(() => folder.remove());

test('creates secrets once, readable only by their owner', () => {
  const path = join(folder.path, 'secrets');
  const first = openSecrets(path);
  const files = [first.voterKeyFile, first.dashboardUsersFile, join(path, 'database.password')];
  const contents = files.map((file) => readFileSync(file, 'utf8'));
  expect(contents[0]).toMatch(/^[0-9a-f]{64}\n$/);
  expect(contents[1]).toMatch(/^admin:[\w-]{24}\n$/);
  expect(first.databasePassword.reveal()).toMatch(/^[\w-]{24}$/);
  for (const file of files) expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(statSync(path).mode & 0o777).toBe(0o700);

  expect(openSecrets(path).databasePassword.reveal()).toBe(first.databasePassword.reveal());
  expect(files.map((file) => readFileSync(file, 'utf8'))).toEqual(contents);
});

test('replaces an empty secret', () => {
  const path = join(folder.path, 'empty');
  const { voterKeyFile } = openSecrets(path);
  writeSecret(voterKeyFile, '');
  openSecrets(path);
  expect(readFileSync(voterKeyFile, 'utf8')).toMatch(/^[0-9a-f]{64}\n$/);
});
