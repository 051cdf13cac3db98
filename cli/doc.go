// Package cli is the command line of Skerry: one file per command. It knows nothing but the REST interface of the
// cluster agent, and of the node agent only that it is a program to start.
package cli
