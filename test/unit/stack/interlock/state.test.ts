import { expect, test } from 'vitest';
import type { Site } from '#interlock/model.ts';
import { carryServers } from '#interlock/state.ts';

const HEADER = '# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_fqdn';
const site = (name: string, ...services: string[]): Site =>
  ({ name, servers: services.map((service) => ({ service })) }) as unknown as Site;

test('hands addresses and health of tasks to the new worker, also for a new backend', () => {
  const dump = [
    '1',
    HEADER,
    '5 vote 1 vote.1 10.0.0.1 2 0 tasks.vote.net',
    '5 vote 2 vote.2 10.0.0.2 0 0 tasks.vote.net',
    '5 vote 3 vote.3 - 0 32 tasks.vote.net',
    '5 vote 4 vote.4 10.0.0.9 0 32 tasks.vote.net',
    '6 votes 1 votes.1 10.0.0.3 2 0 tasks.votes.net',
    '',
  ].join('\n');
  expect(carryServers(dump, [site('canary:vote', 'canary', 'vote'), site('votes', 'votes')])).toBe(
    [
      '1',
      HEADER,
      '5 vote 1 vote.1 10.0.0.1 2 0 tasks.vote.net',
      '5 vote 2 vote.2 10.0.0.2 0 0 tasks.vote.net',
      '6 votes 1 votes.1 10.0.0.3 2 0 tasks.votes.net',
      '5 canary:vote 1 vote.1 10.0.0.1 2 0 tasks.vote.net',
      '5 canary:vote 2 vote.2 10.0.0.2 0 0 tasks.vote.net',
      '',
    ].join('\n'),
  );
});
