// Package enroll admits devices to a cluster and keeps their identity: the certificate authority, join tokens,
// enrolment, approval, renewal, revocation and the answer to "whose certificate is this, and is it still good".
//
// Identity is a key. A node's record binds its id to the SHA-256 of one public key (SubjectPublicKeyInfo); a
// certificate is good while the authority signed it, its key is that key and its serial number was not revoked.
// Authorize is that check, and the broker and the REST API both ask it.
//
// Every admission is one transaction: the use of the token, the node's record and the certificate are stored together,
// so a crash either happened before all of them or after. A device whose reply went astray asks again with the same
// token and the same key and is the same node; its token loses nothing by it.
//
// The times that matter are the authority's, told by Config.Now. A certificate that seems to be from the future is
// accepted, because only this authority could have made it: a clock that fell back must not cut off the fleet.
package enroll
