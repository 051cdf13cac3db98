package workload

import "errors"

// What is wrong with an image or a container, for statuses to be told apart.
var (
	ErrNoImage    = errors.New("no such image")
	ErrBadImage   = errors.New("image cannot be used")
	ErrNotRunning = errors.New("container does not run")
	ErrUnable     = errors.New("its runtime cannot do that")
	// ErrBadContainer is for Start: what is asked of the container cannot be, such as a user that its image does not have.
	ErrBadContainer = errors.New("container cannot be made as it is written")
)
