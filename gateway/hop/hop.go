// Package hop hands mails to the servers behind us and, for outbound mail, to
// those of the world: it finds the hosts of a route, keeps connections to them,
// secures these, and speaks SMTP as a client.
//
// It is the last step on a mail's path. The gateway and its delivery queue call
// [Sender.Send] with a route and a [Transfer], and hear in the [Result] what the
// hop said. The package knows nothing of policies, the ledger or the queue.
//
// A route is a string:
//
//	10.0.0.5:25                   one host
//	10.0.0.5:25, 10.0.0.6:25      hosts in order of preference
//	exchange                      a route of the configuration, by name
//	mx:example.org                the MX of a domain of the world
package hop

import (
	"errors"
	"io"
	"time"
)

// Failures that are not the hop's own words.
var (
	// ErrConnect means that no host of the route could be reached, or none would talk to us.
	ErrConnect = errors.New("hop: next hop cannot be reached")
	// ErrBusy means that all connections that the route allows were in use for as long as the caller could wait.
	ErrBusy = errors.New("hop: all connections to the next hop are in use")
	// ErrEightBit means that the mail has 8-bit bytes and the hop does not take them (RFC 6152).
	ErrEightBit = errors.New("hop: the next hop does not take 8-bit mail")
	// ErrUTF8 means that an address or header needs SMTPUTF8 and the hop does not have it (RFC 6531).
	ErrUTF8 = errors.New("hop: the next hop does not take internationalised addresses")
	// ErrNoRoute means that the route names no host, or that the domain takes no mail (RFC 7505).
	ErrNoRoute = errors.New("hop: no such route")
	// ErrBareNewline means that the mail has a CR or LF that stands alone. Such a mail never goes out.
	ErrBareNewline = errors.New("hop: bare CR or LF in a mail to send")
)

// Recipient is one RCPT. Notify and ORCPT are what the client gave (RFC 3461
// §4.1 and §4.2), "" where it gave nothing.
type Recipient struct {
	Address string
	Notify  string
	ORCPT   string
}

// Transfer is one mail to one next hop.
type Transfer struct {
	From     string
	To       []Recipient
	Size     int64   // of head and body; 0: not known
	EightBit bool    // the mail has bytes above 127
	UTF8     bool    // the client said SMTPUTF8
	Ret      string  // FULL, HDRS or "" (RFC 3461 §4.3)
	EnvID    string  // xtext as the client gave it, or "" (RFC 3461 §4.4)
	Raw      bool    // send bare CR and LF too: for `mailward send --raw`, which tests others
	Head     []byte  // our lines, sent before Body
	Client   *Client // who gave us the mail, for a route with XForward; may be nil
	// DotBy is until when the end of the mail is out, or the mail is not handed
	// over. The reply to it is due then too, unless the route gives it a time of its
	// own. Zero: there is only the context.
	DotBy   time.Time
	Patient bool      // nobody waits for the reply: a slow host gets all the time of RFC 5321, before another one is tried
	Body    io.Reader // lines end in CRLF
	// BeforeDot is called when nothing is left to send but the end of the mail,
	// which makes it the next hop's, with the recipients that it has refused, by
	// address. On an error nothing is handed over. It may be nil.
	BeforeDot func(refused map[string]*Reply) error

	onTime func() bool // see within; nil: there is no such time
}

// Result is how a transfer went.
type Result struct {
	Host      string            // the address of the host that answered, or was tried last
	TLS       string            // version and cipher of the connection, or ""
	Verified  string            // how the host's certificate was checked: pkix, fingerprint, dane, or "" (not)
	DSN       bool              // the hop took over the client's wishes for notifications (RFC 3461); else they are still owed
	Reply     Reply             // to the final dot, when Err is nil
	Refused   map[string]*Reply // recipients that the hop did not take, others were taken
	ReplyLost bool              // the dot is out and no reply came: the hop may have the mail
	Err       error             // nil: accepted. A *Reply: refused as a whole
}
