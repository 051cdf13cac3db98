//go:build arm && !arm.6

package update

// armVersion is the version of 32-bit ARM that this program is built for, as GOARM says; of others there is none.
const armVersion = "v5"
