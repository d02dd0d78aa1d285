import { expect, test } from 'vitest';
import { readProject } from '../docs.ts';

const project = readProject();
const runbook = project.read('stack/RUNBOOK.md');
/** Everything that runs commands: scripts, and the tests of the Swarm. */
const sources = project.files.filter((path) => path.endsWith('.sh') || /^test\/(swarm|kit)\//.test(path));
const code = sources.map((path) => project.read(path)).join('\n');

/** Of Docker, and run by no script or test. */
const UNTESTED = ['swarm init --force-new-cluster'];

test('every command of Docker in the runbook is one that a script or a test uses, or listed as untested', () => {
  const commands = [...runbook.matchAll(/docker ([a-z]+ [a-z]+(?: --force-new-cluster)?)/g)].map(
    ([, words]) => words,
  );
  expect(commands.length).toBeGreaterThan(0);
  const isUsed = (words = '') =>
    code.includes(`docker ${words}`) || code.includes(`'${words.replace(' ', "', '")}'`);
  expect([...new Set(commands)].filter((words) => !isUsed(words))).toEqual(UNTESTED);
});

test('every script of stack/swarm in the runbook is named with its folder', () => {
  expect(runbook.match(/(?<!stack\/swarm\/)\b[a-z-]+\.sh\b/g)).toBeNull();
});

test('every alert says what it means, where to look, what to do and how to know that it worked', () => {
  const pages = runbook.split(/^## Alert /m).slice(1);
  expect(pages.length).toBeGreaterThan(0);
  for (const page of pages) {
    expect(page).toMatch(
      /- \*\*Means\*\*: (.|\n)*- \*\*Look at\*\*(.|\n)*\*\*do\*\*(.|\n)*- \*\*Worked\*\*: /i,
    );
  }
});
