// Package cgroup bounds and counts what the processes of a container use, with control groups of version 1, 2 or both.
package cgroup
