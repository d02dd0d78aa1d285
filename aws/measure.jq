# Makes the measures of one minute from the dashboard's ledger (GET /ledger, the input), and remembers what was accepted when.
#
#   $last  [what this program gave as .history the last time]: {node: [[time, accepted], …]}, oldest first
#   $now   seconds since 1970
#   $stack the stack's name
#
# The age of a queue: jobs leave it in their order. So the oldest vote that waits was accepted after the last minute at which
# as much had been accepted in all as is done by now. True to a minute, counted from the first measure of a node.
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
