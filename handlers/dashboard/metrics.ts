import { Gauge, type Registry } from '@prometheus-io/client';
import { OUTCOMES, sumOutcomes } from '#audit/reconcile.ts';
import type { LiveReport } from './live-audit.ts';

const NODE_STATES = ['enrolled', 'retiring', 'retired', 'written off'] as const;

/**
 * Registers the metrics of the audit. A scrape reads what the page shows, which is at most 2 s old.
 *
 * @param latest returns the audit; called on each scrape
 */
export function createDashboardMetrics(registry: Registry, latest: () => Promise<LiveReport>): void {
  const registers = [registry];
  new Gauge({
    name: 'turnout_audit_votes',
    help: 'Votes by outcome at the last complete audit; accepted is the sum of all others',
    labelNames: ['outcome'],
    registers,
    async collect() {
      const { rows, reconciledAt } = await latest();
      // Before the first audit there is no number, and 0 would be one.
      if (reconciledAt === undefined) return;
      const sums = sumOutcomes(rows);
      for (const outcome of OUTCOMES) this.set({ outcome: toLabel(outcome) }, sums[outcome]);
    },
  });
  new Gauge({
    name: 'turnout_audit_timestamp_seconds',
    help: 'Time of the last complete audit; 0 before the first',
    registers,
    async collect() {
      this.set(((await latest()).reconciledAt ?? 0) / 1_000);
    },
  });
  new Gauge({
    name: 'turnout_audit_nodes',
    help: 'Nodes ever enrolled, by state',
    labelNames: ['state'],
    registers,
    async collect() {
      const { enrolled } = await latest();
      for (const state of NODE_STATES) {
        this.set({ state: toLabel(state) }, enrolled.filter((node) => node.state === state).length);
      }
    },
  });
  new Gauge({
    name: 'turnout_audit_nodes_unreachable',
    help: 'Enrolled and retiring nodes whose queue the dashboard cannot read',
    registers,
    async collect() {
      const { enrolled, nodes } = await latest();
      const read = new Set(nodes.filter(({ fault }) => fault === undefined).map(({ id }) => id));
      const awaited = enrolled.filter(({ state }) => state === 'enrolled' || state === 'retiring');
      this.set(awaited.filter(({ id }) => !read.has(id)).length);
    },
  });
  new Gauge({
    name: 'turnout_audit_sources_foreign',
    help: 'Sources found on a node that is not theirs',
    registers,
    async collect() {
      this.set((await latest()).foreign.length);
    },
  });
  new Gauge({
    name: 'turnout_polls_awaiting_final',
    help: 'Closed polls whose result is not final',
    registers,
    async collect() {
      this.set((await latest()).awaited.size);
    },
  });
}

function toLabel(words: string): string {
  return words.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replaceAll(' ', '_');
}
