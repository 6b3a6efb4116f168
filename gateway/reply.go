package gateway

import (
	"errors"
	"fmt"
	"slices"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"

	"mailward/gateway/hop"
	"mailward/gateway/limit"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/quarantine"
)

// Errors that have a reply of their own.
var (
	errShuttingDown   = errors.New("gateway: shutting down")
	errNotReady       = errors.New("gateway: policies are not read yet")
	errUTF8Address    = errors.New("gateway: address needs SMTPUTF8")
	errRelayDenied    = errors.New("gateway: not a domain of ours")
	errNoRoute        = errors.New("gateway: domain has no next hop")
	errOtherRoute     = errors.New("gateway: recipient has another route")
	errHeaderSize     = errors.New("gateway: the header is too big")
	errNoRecipient    = errors.New("gateway: the recipient is not on the list")
	errRouteSize      = errors.New("gateway: too big for the recipient's route")
	errParameter      = errors.New("gateway: parameter of an extension that is not offered")
	errWithdrawn      = errors.New("gateway: parameter of an extension that was offered and is not any more")
	errManyRecipients = errors.New("gateway: the route takes no more recipients")
	errLoop           = errors.New("gateway: too many hops")
	errEngines        = errors.New("gateway: an engine gave no answer")
	errForeignSender  = errors.New("gateway: sender is not one of ours")
	errSender         = fmt.Errorf("%w: the sender's", errAddress)
	errNested         = errors.New("gateway: MAIL within a transaction")
	errRejected       = errors.New("gateway: rejected by policy")
	errDeferred       = errors.New("gateway: deferred by policy")
	errCrowded        = errors.New("gateway: too many connections")
)

// dmarcError refuses a mail since the author's domain asks for it.
type dmarcError struct{ domain string }

func (e *dmarcError) Error() string { return "gateway: fails DMARC for " + e.domain }

// Errors of the dialog itself: what a client said is no SMTP.
var (
	errLongCommand     = errors.New("gateway: command line is too long")
	errCommandBytes    = errors.New("gateway: command with CR or NUL")
	errUnknownCommand  = errors.New("gateway: unknown command")
	errNotSMTP         = errors.New("gateway: another protocol")
	errNoAuth          = errors.New("gateway: AUTH is not offered")
	errNoHello         = errors.New("gateway: no EHLO yet")
	errPipelining      = errors.New("gateway: commands that must not be pipelined")
	errTooManyCommands = errors.New("gateway: too many commands to no end")
	errChunkSize       = errors.New("gateway: BDAT without a usable size")
	errTLSAlready      = errors.New("gateway: TLS is on already")
	errTLSArgument     = errors.New("gateway: STARTTLS with an argument")
	errTwice           = errors.New("gateway: a parameter stands there twice")
	errLongParameter   = errors.New("gateway: a parameter is too long")
	errGaveUp          = errors.New("gateway: the client does not go on with its chunks")
	errSlowBody        = errors.New("gateway: the mail takes too long to come")
	errEarlyTalker     = errors.New("gateway: talked before the greeting")
	errXForward        = errors.New("gateway: XFORWARD from a client that is no upstream of ours")
	errXForwardMail    = errors.New("gateway: XFORWARD within a transaction")
	errXForwardSyntax  = errors.New("gateway: malformed XFORWARD")
	errNoGreeting      = errors.New("gateway: gone before the greeting")
)

// fatalCommand says whether the session ends with the reply: what follows may
// not be what the client meant to say.
func fatalCommand(err error) bool {
	return slices.ContainsFunc([]error{errNotSMTP, errPipelining, errTooManyCommands, errChunkSize, errEarlyTalker}, func(e error) bool { return errors.Is(err, e) })
}

// idError carries the mail's id to its reply.
type idError struct {
	err error
	id  uuid.UUID
}

func (e *idError) Error() string { return e.err.Error() }
func (e *idError) Unwrap() error { return e.err }

// withID adds the mail's id to a failure, so that the reply can name it.
func withID(err error, id uuid.UUID) error { return &idError{err, id} }

// reply turns a failure into the answer for the SMTP client. Every SMTP code
// that is ours stands here. The client learns nothing about our insides: err
// itself goes to the log, under the mail's id.
//
// An error that we do not know is temporary (RFC 5321 §4.2.1): the sender keeps
// the mail and tries again. The result is an error, not a *smtp.SMTPError:
// go-smtp crashes the session on a typed nil.
func reply(err error) error {
	if err == nil {
		return nil
	}
	e := replyFor(err).SMTPError
	var with *idError
	if errors.As(err, &with) {
		e.Message += " (" + with.id.String() + ")"
	}
	return e
}

// wireReply is a reply that can be put on the wire as it is.
type wireReply struct{ *smtp.SMTPError }

func (r wireReply) line() string {
	return fmt.Sprintf("%d %d.%d.%d %s\r\n", r.Code, r.EnhancedCode[0], r.EnhancedCode[1], r.EnhancedCode[2], r.Message)
}

func replyFor(err error) wireReply {
	if e := dialogReply(err); e != nil {
		return wireReply{e}
	}
	return wireReply{mailReply(err)}
}

// dialogReply answers what is no SMTP.
func dialogReply(err error) *smtp.SMTPError {
	switch {
	case errors.Is(err, errLongCommand):
		return say(500, 5, 5, 2, "Line is too long")
	case errors.Is(err, errCommandBytes):
		return say(500, 5, 5, 2, "Commands have no CR or NUL in them")
	case errors.Is(err, errUnknownCommand):
		return say(500, 5, 5, 2, "Command not known")
	case errors.Is(err, errNotSMTP):
		return say(554, 5, 7, 0, "This is SMTP, goodbye")
	case errors.Is(err, errNoAuth):
		return say(502, 5, 5, 1, "AUTH is not offered")
	case errors.Is(err, errNoHello):
		return say(503, 5, 5, 1, "Say EHLO first")
	case errors.Is(err, errPipelining):
		return say(503, 5, 5, 0, "Wait for the reply to this command")
	case errors.Is(err, errTooManyCommands):
		return say(421, 4, 7, 0, "Too many commands without a mail")
	case errors.Is(err, errChunkSize):
		return say(501, 5, 5, 4, "BDAT needs a size in octets, and nothing but LAST behind it")
	case errors.Is(err, errTLSAlready):
		return say(503, 5, 5, 1, "TLS is on already")
	case errors.Is(err, errTLSArgument):
		return say(501, 5, 5, 4, "STARTTLS takes no argument")
	case errors.Is(err, errTwice):
		return say(501, 5, 5, 4, "A parameter stands there twice")
	case errors.Is(err, errLongParameter):
		return say(501, 5, 5, 4, "A parameter is too long: ENVID has at most 100 characters, ORCPT 500")
	case errors.Is(err, errXForward):
		return say(550, 5, 7, 0, "XFORWARD is not taken from you")
	case errors.Is(err, errXForwardMail):
		return say(503, 5, 5, 1, "XFORWARD comes before MAIL")
	case errors.Is(err, errXForwardSyntax):
		return say(501, 5, 5, 4, "An attribute of XFORWARD is not known or malformed")
	case errors.Is(err, errSlowBody):
		return say(421, 4, 4, 2, "The mail takes too long, try again later")
	case errors.Is(err, errEarlyTalker):
		return say(554, 5, 5, 1, "You talked before the greeting")
	case errors.Is(err, errCrowded):
		return say(421, 4, 3, 2, "Too many connections, try again later")
	}
	return nil
}

func mailReply(err error) *smtp.SMTPError {
	var no *hop.Reply
	var dmarc *dmarcError
	var limited *limit.Refusal
	switch {
	case errors.As(err, &limited):
		return say(limited.Code, limited.Enhanced[0], limited.Enhanced[1], limited.Enhanced[2], limited.Text)
	case errors.Is(err, errHeaderSize):
		return say(552, 5, 3, 4, "The header of the mail is too big")
	case errors.Is(err, errNoRecipient):
		return say(550, 5, 1, 1, "Recipient unknown")
	case errors.Is(err, errNested):
		return say(503, 5, 5, 1, "One mail at a time: RSET gives up the one that has begun")
	case errors.Is(err, errSender):
		return say(501, 5, 1, 7, "The sender's address is malformed")
	case errors.Is(err, errAddress):
		return say(501, 5, 1, 3, "The recipient's address is malformed")
	case errors.Is(err, errParameter):
		return say(555, 5, 5, 4, "Parameter is not known here")
	case errors.Is(err, errWithdrawn):
		return say(455, 4, 5, 4, "Parameter cannot be passed on now, try again later")
	case errors.Is(err, hop.ErrUTF8):
		return say(550, 5, 6, 7, "The destination does not take internationalised addresses")
	case errors.As(err, &no):
		return hopReply(no)
	case errors.Is(err, message.ErrLongLine):
		return say(554, 5, 6, 0, "A line of the mail is too long")
	case errors.Is(err, message.ErrHiddenEnd):
		return say(554, 5, 6, 0, "A line of the mail is a dot and NULs")
	case errors.Is(err, message.ErrBareNewline), errors.Is(err, hop.ErrBareNewline):
		return say(554, 5, 6, 0, "Bare CR or LF in the mail: lines must end in CRLF")
	case errors.Is(err, errRouteSize):
		return say(552, 5, 3, 4, "Mail is too big for its destination")
	case errors.Is(err, message.ErrTooBig):
		return say(552, 5, 3, 4, "Mail is too big")
	case errors.Is(err, message.ErrBudget):
		return say(452, 4, 3, 1, "Busy, try again later")
	case errors.Is(err, message.ErrDiskFull), errors.Is(err, quarantine.ErrDiskFull), pg.IsDiskFull(err):
		return say(452, 4, 3, 1, "No room for mail now, try again later")
	case errors.Is(err, errShuttingDown):
		return say(421, 4, 3, 2, "Shutting down, try again later")
	case errors.Is(err, errUTF8Address), errors.Is(err, hop.ErrUTF8):
		return say(550, 5, 6, 7, "Addresses outside of ASCII cannot be passed on")
	case errors.Is(err, errRelayDenied):
		return say(550, 5, 7, 1, "Relay access denied")
	case errors.Is(err, errForeignSender):
		return say(550, 5, 7, 1, "You may not send mail to elsewhere in the name of this domain")
	case errors.As(err, &dmarc):
		// RFC 7372 §3.2
		return say(550, 5, 7, 26, "Refused: the mail fails DMARC, and the policy of "+hop.Harmless(dmarc.domain, 253)+" is reject")
	case errors.Is(err, errOtherRoute):
		return say(452, 4, 5, 3, "Send this recipient in a mail of its own")
	case errors.Is(err, errManyRecipients):
		return say(452, 4, 5, 3, "The destination takes no more recipients in one mail")
	case errors.Is(err, errLoop):
		return say(554, 5, 4, 6, "Too many hops: this mail is looping")
	case errors.Is(err, hop.ErrEightBit):
		return say(554, 5, 6, 3, "The destination does not take 8-bit mail")
	case errors.Is(err, errRejected):
		return say(550, 5, 7, 1, "Refused by policy")
	case errors.Is(err, errDeferred):
		return say(451, 4, 7, 1, "Not taken now, try again later")
	case errors.Is(err, hop.ErrConnect):
		return say(451, 4, 4, 1, "The destination cannot be reached, try again later")
	case errors.Is(err, errEngines), errors.Is(err, errNotReady), errors.Is(err, errNoRoute), errors.Is(err, hop.ErrNoRoute), errors.Is(err, hop.ErrBusy):
		return say(451, 4, 3, 2, "Mail cannot be checked or passed on now, try again later")
	default:
		return say(451, 4, 3, 0, "Try again later")
	}
}

func say(code, class, subject, detail int, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, detail}, Message: text}
}

// accepted is the 250 for a mail that is safe. go-smtp takes it as an "error".
func accepted(id uuid.UUID, text string) error {
	return say(250, 2, 0, 0, fmt.Sprintf("%s (%s)", text, id))
}

// hopReply makes what the next hop said our own reply: its code, and its text.
func hopReply(h *hop.Reply) *smtp.SMTPError {
	code := h.Code
	switch {
	case code == 421 || code/100 != 2 && code/100 != 4 && code/100 != 5:
		// Its connection ends, ours does not; and 3xx here is nonsense.
		code = 451
	}
	e := say(code, code/100, 0, 0, h.Text)
	var a, b, c int
	if n, _ := fmt.Sscanf(h.Enhanced, "%d.%d.%d", &a, &b, &c); n == 3 && a == code/100 && b >= 0 && b <= 999 && c >= 0 && c <= 999 {
		e.EnhancedCode = smtp.EnhancedCode{a, b, c}
	}
	if e.Message == "" {
		e.Message = "Refused by destination"
	}
	return e
}
