// Package api holds the nouns that travel between the tiers of Skerry: what a node agent says about itself, what it is
// asked to run, what became of each command. It is plain data on the standard library alone; how the nouns are encoded
// and where they travel is package mqtt's business.
//
// Every noun that arrives from outside has a Validate method. A message that decodes is well formed; a message that
// validates is safe to act on. Fields that a later version adds are ignored by an earlier one, so a node one minor
// version ahead of its cluster agent keeps working (docs/adr/0003-wire-details.md).
package api
