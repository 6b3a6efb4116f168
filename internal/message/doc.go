// Package message is a mail as bytes: received once, hashed once, and never
// changed afterwards.
//
// It is the first step on a mail's path. [Spooler.Spool] reads the DATA of an
// SMTP client through a strict line-end check into a [Spool], which the scanner
// gets as a file descriptor, the quarantine encrypts, and the gateway sends on.
// What was scanned, stored and sent are the same bytes, since there is only one
// copy and nobody can write to it any more.
package message

import (
	"errors"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrBareNewline means a CR without LF or a LF without CR: what one server
	// takes for text, another may take for the end of the mail.
	ErrBareNewline = errors.New("message: bare CR or LF")
	// ErrHiddenEnd means a line of a dot and NULs, which is the end of the mail to
	// servers that drop NULs.
	ErrHiddenEnd = errors.New("message: an end of data hidden by NULs")
	// ErrLongLine means a line of more octets than Config.MaxLine.
	ErrLongLine = errors.New("message: line too long")
	// ErrTooBig means more bytes than Config.MaxSize.
	ErrTooBig = errors.New("message: too big")
	// ErrBudget means that the memory and disk set aside for mail in flight is spent.
	ErrBudget = errors.New("message: spool budget spent")
	// ErrDiskFull means that the spool's disk is full or nearly so.
	ErrDiskFull = errors.New("message: spool disk full")
)

// Envelope is what the SMTP session says of a mail.
type Envelope struct {
	ID           uuid.UUID // UUIDv7, in our reply, our Received line and every record
	ReceivedAt   time.Time
	ClientIP     netip.Addr
	Helo         string
	TLS          string // version and cipher, or ""
	With         string // protocol as Received names it (RFC 3848): ESMTP, LMTPS, ...; "" is ESMTP
	From         string // "" is the null sender
	Recipients   []string
	SMTPUTF8     bool
	EightBitMIME bool
	Ret          string // FULL, HDRS or "" (RFC 3461 §4.3)
	EnvID        string // xtext as the client gave it, or "" (RFC 3461 §4.4)
}
