package gateway

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"

	"mailward/internal/message"
	"mailward/policy"
)

// session is one client connection. go-smtp calls its methods one at a time.
type session struct {
	s        *Server
	conn     *smtp.Conn
	wire     *wire
	clientIP netip.Addr

	from       string
	eightBit   bool
	haveFrom   bool
	recipients []recipient
}

// recipient is one RCPT that was taken. notify and orcpt are what the client
// asked for (RFC 3461 §4.1 and §4.2), as it said it.
type recipient struct {
	policy.Recipient
	notify, orcpt string
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	w, ok := c.Conn().(*wire)
	if !ok {
		return nil, reply(errNotSMTP)
	}
	sess := &session{s: s, conn: c, wire: w}
	if ap, err := netip.ParseAddrPort(w.RemoteAddr().String()); err == nil {
		sess.clientIP = ap.Addr().Unmap()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, reply(errShuttingDown)
	}
	s.sessions[w] = true
	s.metrics.sessions.Inc()
	return sess, nil
}

// Reset implements [smtp.Session].
func (ss *session) Reset() {
	ss.from, ss.haveFrom, ss.eightBit, ss.recipients = "", false, false, nil
}

// Logout implements [smtp.Session].
func (ss *session) Logout() error {
	ss.s.mu.Lock()
	delete(ss.s.sessions, ss.wire)
	ss.s.mu.Unlock()
	ss.s.metrics.sessions.Dec()
	return nil
}

// Mail implements [smtp.Session].
func (ss *session) Mail(from string, opts *smtp.MailOptions) error {
	ss.Reset()
	if ss.s.isClosing() {
		return reply(errShuttingDown)
	}
	if !ss.s.deps.Policies.Ready() {
		return reply(errNotReady)
	}
	if !isASCII(from) {
		return reply(errUTF8Address)
	}
	if opts.Size > ss.s.cfg.MaxMessageSize {
		return reply(message.ErrTooBig)
	}
	if err := ss.s.deps.Spooler.Room(opts.Size); err != nil {
		return reply(err)
	}
	ss.from, ss.haveFrom, ss.eightBit = from, true, opts.Body == smtp.Body8BitMIME
	return nil
}

// Rcpt implements [smtp.Session].
func (ss *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !isASCII(to) {
		return reply(errUTF8Address)
	}
	r, ok := ss.s.deps.Policies.Lookup(to)
	if !ok && strings.EqualFold(to, "postmaster") {
		// RFC 5321 §4.5.1: postmaster without a domain is always taken.
		r, ok = ss.s.deps.Policies.Postmaster()
	}
	if !ok {
		ss.s.metrics.relayDenied.Inc()
		return reply(errRelayDenied)
	}
	if r.Domain.NextHop == "" {
		return reply(errNoRoute)
	}
	for _, have := range ss.recipients {
		if have.Address == r.Address {
			return nil // The same recipient twice gets one copy.
		}
	}
	// The reply to DATA comes from one next hop, for all recipients.
	if len(ss.recipients) > 0 && (ss.recipients[0].Domain.NextHop != r.Domain.NextHop || ss.recipients[0].Domain.Workspace != r.Domain.Workspace) {
		return reply(errOtherRoute)
	}
	ss.recipients = append(ss.recipients, recipient{Recipient: r})
	return nil
}

// Data implements [smtp.Session]. After DATA the body is still on the wire, and
// is taken from there; r has what comes in BDAT chunks.
func (ss *session) Data(r io.Reader) error {
	ss.wire.busy.Store(true)
	defer func() {
		ss.wire.busy.Store(false)
		if ss.s.isClosing() {
			// The reply to this mail goes out before go-smtp reads again.
			time.AfterFunc(time.Second, ss.wire.hangUpIfIdle)
		}
	}()
	if ss.wire.mode == modeBody {
		r = ss.wire.body()
	}
	id, err := uuid.NewV7()
	if err != nil {
		return reply(err)
	}
	m := &mail{recipients: ss.recipients, env: message.Envelope{ID: id, ReceivedAt: time.Now().UTC(), ClientIP: ss.clientIP, Helo: ss.conn.Hostname(),
		TLS: ss.wire.tlsName(), From: ss.from, EightBitMIME: ss.eightBit}}
	for _, rc := range ss.recipients {
		m.env.Recipients = append(m.env.Recipients, rc.Address)
	}
	log := ss.s.log.With("mail", id)
	sp, err := ss.s.deps.Spooler.Spool(ss.s.base, r)
	if err != nil {
		log.Info("mail not taken", "error", err)
		ss.s.metrics.mails.WithLabelValues("not_taken").Inc()
		return reply(withID(err, id))
	}
	defer sp.Close()
	m.spool = sp
	ctx, cancel := context.WithTimeout(ss.s.base, handleLimit)
	defer cancel()
	return ss.s.handle(ctx, log, m)
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
