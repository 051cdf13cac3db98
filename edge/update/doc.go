// Package update lets a node agent replace its own program, and return by itself to the one before (docs/adr/0021).
//
// Three places hold programs: where the installer put one, which is also the launcher, and the slots a and b below a
// directory. A state file tells which is active and which is on trial. State and the deciding function are pure; Dir keeps
// the state, Launcher starts what is due, Installer brings a new program into a slot, and Self is what the running agent is of all that.
//
// Between launcher and program there is a contract that versions far apart have to keep: the form of the state file, where
// fields are only added, and three variables, which tell a program that it was launched, by whom, and whether it is on trial.
package update
