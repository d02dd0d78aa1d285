/** One measurement of one side in one round. All reports derive from samples. */
export interface Sample {
  readonly scenario: string;
  /** The name of what was measured: `turnout`, `empty`, … */
  readonly side: string;
  readonly round: number;
  /** The varied parameters: connections, nodes, backlog, … */
  readonly params: Readonly<Record<string, number>>;
  /** What a request or a job of this side passes through: "Hono, BullMQ, Redis". */
  readonly passesThrough?: string;
  /** The flags of the Node process under measurement. */
  readonly nodeFlags?: readonly string[];
  readonly metrics: Readonly<Partial<Record<MetricName, number>>>;
  /** Time series for plots: columns of equal length. */
  readonly series?: Readonly<Record<string, readonly number[]>>;
}

interface Metric {
  readonly label: string;
  readonly unit: string;
  readonly better: 'more' | 'less' | 'neither';
  readonly digits: number;
}

const metric = (label: string, unit: string, better: Metric['better'], digits: number): Metric => ({
  label,
  unit,
  better,
  digits,
});

/** All metrics. `us…` are CPU microseconds per vote, user and kernel mode of all threads and children. */
export const METRICS = {
  votesPerSecond: metric('votes/s', '1/s', 'more', 0),
  p50Ms: metric('p50', 'ms', 'less', 2),
  p99Ms: metric('p99', 'ms', 'less', 2),
  p999Ms: metric('p99.9', 'ms', 'less', 2),
  receiptsPerSecond: metric('receipts/s', '1/s', 'more', 0),
  megabytes: metric('size', 'MB', 'less', 1),
  auditMs: metric('audit', 'ms', 'less', 0),
  resultsMs: metric('results', 'ms', 'less', 0),
  nodesMs: metric('nodes', 'ms', 'less', 0),
  usProxy: metric('proxy', 'µs', 'less', 2),
  usHandler: metric('handler', 'µs', 'less', 2),
  usRedis: metric('redis', 'µs', 'less', 2),
  usWorker: metric('worker', 'µs', 'less', 2),
  usPostgres: metric('postgres', 'µs', 'less', 2),
  usTotal: metric('total', 'µs', 'less', 2),
  corePercent: metric('of a core', '%', 'less', 2),
  votesPerJob: metric('votes/job', '', 'more', 0),
  votesPerCommit: metric('votes/commit', '', 'more', 0),
  lagMs: metric('lag', 'ms', 'less', 0),
  tableBytes: metric('tables', 'bytes', 'less', 1),
  walBytes: metric('WAL', 'bytes', 'less', 1),
  redisBytes: metric('RAM', 'bytes', 'less', 1),
  diskBytes: metric('disk', 'bytes', 'less', 1),
  diskBytesPeak: metric('disk, peak', 'bytes', 'less', 1),
  readyMs: metric('first answer', 'ms', 'less', 0),
  residentMegabytes: metric('RAM', 'MB', 'less', 1),
  bundleKilobytes: metric('bundle', 'KB', 'less', 0),
  gzippedKilobytes: metric('gzipped', 'KB', 'less', 0),
  offered: metric('offered', 'votes', 'neither', 0),
  accepted: metric('accepted', 'votes', 'neither', 0),
  refused: metric('refused', 'votes', 'less', 0),
  failed: metric('failed', 'votes', 'less', 0),
  counted: metric('counted', 'votes', 'neither', 0),
  queued: metric('queued', 'votes', 'neither', 0),
  lost: metric('lost', 'votes', 'less', 0),
  tallyMismatches: metric('tally mismatches', '', 'less', 0),
  drainedAfterMs: metric('drained after', 'ms', 'less', 0),
  othersPercent: metric('other CPU', '%', 'neither', 1),
  stealPercent: metric('steal', '%', 'neither', 1),
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS;

/** In the order of the columns of a table. */
export const METRIC_NAMES = Object.keys(METRICS) as MetricName[];
