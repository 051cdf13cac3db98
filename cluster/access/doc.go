// Package access knows who may use the REST API by a bearer token, and keeps the audit log of every write that somebody
// asked for, however they asked. Both live in the cluster agent's store.
package access
