//go:build !arm

package update

// armVersion is the version of 32-bit ARM that this program is built for, as GOARM says; of others there is none.
const armVersion = ""
