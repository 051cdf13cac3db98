// Package account compares what simulated nodes know they did with what can be seen of it elsewhere. The truth is a
// compact log of each node's samples and commands; a view is a place where they show, such as the REST interface; a check
// finds the differences that no report explains. Checks are pure, and each has a test in which it must fail.
package account
