// Package broker is the cluster agent's own MQTT broker: mochi-mqtt behind a listener of ours that admits nobody without
// a client certificate, and a hook that allows nothing but the contract and acknowledges nothing that is not stored.
// It speaks MQTT 3.1.1 and 5, persists nothing (the truth is with the agent), and ends each session with its connection.
//
// A node's client id is its name, so a new session of a node takes over its old one and nobody else's does. The client
// ids of everybody else live under their common name, which has a colon, so an operator can choose any id, or none, and
// take over nobody but itself.
//
// What mochi leaves open is closed here. Its publishers block on a subscriber whose socket is full (they share a lock
// with the write): our connections take writes at once and hold back in OnPacketEncode, outside that lock, so that
// mochi's bounded queue fills, drops and counts. It drops retained messages beyond that queue when somebody subscribes:
// we deliver them ourselves, at the subscriber's pace. It takes over a session while the old one may still publish its
// will: here the newcomer waits until the old session is over.
package broker
