// Package confine takes from a program what it does not need before it starts: capabilities, system calls, new privileges; and
// finds out as whom it runs.
//
// All of it belongs to a thread and is inherited by what the thread starts. So a supervisor confines one thread, starts the program
// from it, and lets the thread end: no second program of ours is ever inside with fewer rights than its own.
package confine
