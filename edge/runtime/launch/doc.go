// Package launch works out of a container and its image what is to be run, the same for every runtime.
package launch
