package workload

import "errors"

// What is wrong with an image or a container, for statuses to be told apart.
var (
	ErrNoImage    = errors.New("no such image")
	ErrBadImage   = errors.New("image cannot be used")
	ErrNotRunning = errors.New("container does not run")
)
