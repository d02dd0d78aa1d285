# Computes the metrics of a minute from the dashboard's audit (GET /ledger, the input), and records accepted votes over time.
#
#   $last  [.history of the previous run]: {node: [[time, accepted], …]}, oldest first
#   $now   seconds since 1970
#   $stack the stack's name
#
# Age of a queue: jobs leave it in order, so the oldest pending vote was accepted after the last minute at which the total of
# accepted votes did not exceed the votes processed by now. Precise to a minute, from the first run for a node.
def done: .accepted - .pending - .failed - .lost;

. as $ledger |
($ledger.nodes | map(. as $node | {
  key: .node,
  value: (($last[0][.node] // []) + [[$now, .accepted]]
    | [.[] | select(.[1] <= ($node | done))][-1:] + [.[] | select(.[1] > ($node | done))])
}) | from_entries) as $history |
{
  history: $history,
  metrics: ([
    ["QueueAge", "Seconds", ([$ledger.nodes[] | select(.pending > 0) | $now - $history[.node][0][0]] | max // 0)],
    ["Lost", "Count", $ledger.total.lost],
    ["Failed", "Count", $ledger.total.failed],
    ["Pending", "Count", $ledger.total.pending],
    ["Accepted", "Count", $ledger.total.accepted],
    ["UnreachableQueues", "Count", ([$ledger.queues[] | select(.reachable | not)] | length)]
  ] | map({ MetricName: .[0], Unit: .[1], Value: .[2], Dimensions: [{ Name: "Stack", Value: $stack }] }))
}
