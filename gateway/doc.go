// Package gateway takes mail in over SMTP and passes it on: it is the only
// package that talks to other mail servers.
//
// A mail's path through it is one function, Server.handle in handle.go. Around
// it are the SMTP session (session.go), every reply code (reply.go), the lines
// that we put on top of a mail (headers.go), the hand-over to next hops (package hop), and
// the queue that delivers later what could not be passed on at once or was
// released (package queue).
//
// The one promise: a client hears 250 after its mail only when the next hop has
// accepted it, or when it is durable here.
package gateway
