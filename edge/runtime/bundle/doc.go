// Package bundle is what the agent and the supervisor of a container share: a folder for each container, and a conversation over
// a socket in it.
//
// The folder holds
//
//	record  which container it is; written before anything else
//	lock    locked by the supervisor from before it begins until it ends: who holds it lives
//	begun   process, boot and control groups; written before the program starts, and never started twice
//	end     how it ended; a supervisor ends after this is on disk
//	s       the socket, for root alone
//	upper   what the container changed of its image
//
// What a container is given at its start, secrets with it, goes to the supervisor through a pipe and never to disk.
package bundle
