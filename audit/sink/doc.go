// Package sink sends copies of the audit's events to other machines and
// programs: syslog over TLS, and a file of JSON lines that an agent reads.
//
// It is beside a mail's path. Package audit keeps the place in the stream and
// calls [audit.Sink] again with the same events after a failure, so these
// sinks only have to know when an event is really out of our hands.
package sink
