// Package command is the node's side of commands: a journal that survives kill -9, an engine that brings every command
// to exactly one final phase with its side effect at most once, and the check of arguments against a verb's schema. The
// verbs themselves are in package verb.
//
// The order of writes is the whole trick. A command is journalled as accepted, with fsync, before anything is done
// about it; as running, with fsync, before a verb whose side effect must not happen twice begins; and with its final
// status, with fsync, before that status is sent. What a restart finds in the journal therefore tells what may have
// happened, and what surely has not. A final status is sent again until it is acknowledged.
//
// Safe verbs, such as ping, are kept in memory: one that a crash takes away is delivered again and does no harm. What is
// not acknowledged within Config.ResendEvery goes to the journal all the same. A refusal that the journal has no room for is told
// at once, for nothing was done, and kept in memory lest the command run when it is delivered again.
package command
