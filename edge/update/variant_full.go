//go:build !lite

package update

// variant is which of the two programs of a release this is.
const variant = "full"
