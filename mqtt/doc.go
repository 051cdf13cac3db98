// Package mqtt is the wire: which message travels on which topic, how it is encoded and signed, and the link that
// carries it. Topic strings exist in topic.go alone; the table in contract.go is the source of docs/mqtt.md and of the
// AsyncAPI document. MQTT 3.1.1 (OASIS standard, 29 October 2014) is all it needs of a broker; clauses are cited as
// [MQTT-x.y.z-n].
package mqtt
