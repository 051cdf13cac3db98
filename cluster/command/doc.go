// Package command is the cluster agent's side of commands: the journal that is the truth of every api.CommandRecord.
//
// # Who decides how a command ended
//
// A command is closed by two parties that may be cut off from each other, at a time that both were told beforehand. Over
// a link that loses messages no protocol lets both always close it the same way at a fixed time (the two generals'
// problem), so what each decides is split:
//
//   - The node is the authority on the outcome: what happened on the machine. It journals accepted before it acts, never
//     begins after the signed deadline, closes what it accepted at deadline + its own grace, and offers the final status
//     again until it is acknowledged.
//   - This journal is the authority on the verdict: the one final phase that everybody who asks is told. It is whatever
//     came first, in the order of transactions: a final status of the node, or the close at deadline + Grace (longer than
//     the node's, so a node in touch always comes first), or a cancel of what was never delivered.
//
// The close is expired when no sign of acceptance has been stored, timed_out when one has. A verdict never changes. When
// the node's outcome arrives after the close and differs, the verdict stays and the outcome is kept beside it: as the
// record's Status, and in its History as a transition of side node, phase the verdict's, reason "late: succeeded…".
// Then it is acknowledged, so that the node forgets. Both sides then hold exactly one answer: the record, which states
// the verdict and, where it differs, the outcome. Verdict and outcome differ only when no status got through between
// the node's final and deadline + Grace.
//
// Invariants, held by the tests: a record has exactly one final phase, and one at all once deadline + Grace has passed; a
// command not delivered by its deadline never is; what the node accepted is handed to it again only if the node itself
// lists it as open, so a node that lost its journal does not do things twice; an id is acknowledged only when the node's
// final status is on disk or the id is unknown here; queued and delivered are on disk before Submit returns and before
// anything is sent. So a crash between the two leaves a command marked delivered that was not: it is delivered again.
// Safe verbs (api.Verb) are the exception to the last: they go out while they are journalled, and nobody is told of
// them before they are.
//
// # Order of things
//
// Every change is decided inside a transaction on what is on disk, and shows in memory and to watchers only after the
// commit. Transactions are shared by whoever comes at the same time (package commit). Open commands are kept in memory,
// final ones on disk until the retention policy drops them; open ones are never dropped.
package command
