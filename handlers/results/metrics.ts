import { Counter, Gauge, type Registry } from '@prometheus-io/client';

/** Called when the gauges are scraped. */
interface Readings {
  readonly snapshotAsOf: () => number | undefined;
  readonly streamsOpen: () => number;
}

const RECEIPT_OUTCOMES = ['counted', 'pending', 'written_off', 'unknown', 'refused', 'failed'] as const;
export type ReceiptOutcome = (typeof RECEIPT_OUTCOMES)[number];

/** Called by the parts of the results process to update its metrics. */
export interface ResultsMetrics {
  onRead(outcome: 'read' | 'failed'): void;
  onReceipt(outcome: ReceiptOutcome): void;
}

/** Creates the metrics of the results process. */
export function createResultsMetrics(registry: Registry, readings: Readings): ResultsMetrics {
  const registers = [registry];
  const reads = new Counter({
    name: 'turnout_results_reads_total',
    help: 'Queries for the results, by outcome',
    labelNames: ['outcome'],
    registers,
  });
  const receipts = new Counter({
    name: 'turnout_results_receipt_lookups_total',
    help: 'Receipt look-ups, by outcome',
    labelNames: ['outcome'],
    registers,
  });
  for (const outcome of ['read', 'failed']) reads.inc({ outcome }, 0);
  for (const outcome of RECEIPT_OUTCOMES) receipts.inc({ outcome }, 0);
  new Gauge({
    name: 'turnout_results_snapshot_age_seconds',
    help: 'Age of the current snapshot; NaN before the first',
    registers,
    collect() {
      const asOf = readings.snapshotAsOf();
      this.set(asOf === undefined ? Number.NaN : (Date.now() - asOf) / 1_000);
    },
  });
  new Gauge({
    name: 'turnout_results_streams_open',
    help: 'Open server-sent event streams',
    registers,
    collect() {
      this.set(readings.streamsOpen());
    },
  });
  return {
    onRead: (outcome) => reads.inc({ outcome }),
    onReceipt: (outcome) => receipts.inc({ outcome }),
  };
}
