package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
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
	peer     netip.Addr // whoever is connected to us
	clientIP netip.Addr // that, or its own client where it tells of one
	envelope
}

// envelope is what a transaction has said so far.
type envelope struct {
	open       bool // MAIL was taken
	from       string
	size       int64 // as declared
	eightBit   bool
	utf8       bool
	ret, envID string
	recipients []recipient
	said       []said
	ahead      int // recipients to come that the next hop was asked about
}

// recipient is one RCPT that was taken. notify and orcpt are what the client
// asked for (RFC 3461 §4.1 and §4.2), as it said it.
type recipient struct {
	policy.Recipient
	notify, orcpt string
}

// said is a recipient as the client wrote it, and as we know it. LMTP has a
// reply for each of the former.
type said struct{ raw, address string }

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	w, ok := c.Conn().(*wire)
	if !ok {
		return nil, reply(errNotSMTP)
	}
	sess := &session{s: s, conn: c, wire: w, peer: w.client(), clientIP: w.client()}
	w.inMail = func() bool { return sess.open }
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, reply(errShuttingDown)
	}
	s.metrics.sessions.Inc()
	return sess, nil
}

// Reset implements [smtp.Session].
func (ss *session) Reset() {
	ss.envelope = envelope{}
	ss.clientIP, ss.wire.told = ss.peer, nil
}

// Logout implements [smtp.Session].
func (ss *session) Logout() error {
	ss.s.metrics.sessions.Dec()
	return nil
}

// Data implements [smtp.Session].
func (ss *session) Data(r io.Reader) error { return ss.take(r, nil) }

// LMTPData implements [smtp.LMTPSession]: a reply for each recipient (RFC 2033
// §4.2), so that the client keeps what the next hop does not take.
func (ss *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	each := map[string]error{}
	said := ss.said // a client that goes away between chunks takes the envelope with it
	err := ss.take(r, each)
	for _, rc := range said {
		one, ok := each[rc.address]
		if !ok {
			one = err
		}
		status.SetStatus(rc.raw, one)
	}
	return err
}

// take reads a mail and handles it. After DATA the body is still on the wire,
// and is taken from there; r has what comes in BDAT chunks. each gets the
// replies that differ from the one for the whole mail; nil: there is only one.
func (ss *session) take(r io.Reader, each map[string]error) error {
	r = ss.wire.source(r)
	id, err := uuid.NewV7()
	if err != nil {
		return reply(err)
	}
	m := &mail{recipients: ss.recipients, trusted: ss.s.relaysFor(ss.clientIP) || ss.outbound(), client: ss.client(id), each: each, env: message.Envelope{ID: id, ReceivedAt: time.Now().UTC(), ClientIP: ss.clientIP, Helo: ss.helo(),
		TLS: ss.wire.tlsName(), With: ss.with(), From: ss.from, EightBitMIME: ss.eightBit, SMTPUTF8: ss.utf8, Ret: ss.ret, EnvID: ss.envID}}
	for _, rc := range ss.recipients {
		m.env.Recipients = append(m.env.Recipients, rc.Address)
	}
	log := ss.s.log.With("mail", id)
	if t := ss.wire.told; t != nil {
		log.Info("client as told by XFORWARD", "upstream", ss.peer, "addr", t.Addr, "name", t.Name, "port", t.Port, "helo", t.Helo, "proto", t.Proto, "ident", t.Ident, "source", t.Source)
	}
	sp, err := ss.s.deps.Spooler.Spool(ss.s.base, r)
	if err != nil {
		log.Info("mail not taken", "error", err)
		ss.s.metrics.mails.WithLabelValues("not_taken").Inc()
		return reply(withID(err, id))
	}
	defer sp.Close()
	m.spool = sp
	return ss.handle(log, m)
}

func (ss *session) handle(log *slog.Logger, m *mail) error {
	ctx, cancel := context.WithTimeout(ss.s.base, ss.s.limits.answer)
	defer cancel()
	err := ss.s.handle(ctx, log, m)
	ctx, cancel = after(ctx)
	defer cancel()
	ss.s.countReply(m, err)
	var e *smtp.SMTPError
	if ss.s.deps.Guard != nil && !ss.wire.opt.lmtp && errors.As(err, &e) && e.Code/100 == 2 {
		ss.s.deps.Guard.Sent(ctx, ss.clientIP, m.env.From, m.spool.Size())
	}
	return err
}

// outbound says whether the mail leaves us: then the client was allowed to send it.
func (ss *session) outbound() bool {
	return slices.ContainsFunc(ss.recipients, func(r recipient) bool { return r.Direction == policy.Outbound })
}

// with is the protocol's name for our Received line (RFC 3848, RFC 6531 §4.3).
func (ss *session) with() string {
	name := "SMTP"
	switch {
	case ss.wire.opt.lmtp:
		name = "LMTP"
	case ss.wire.extended.Load() && !ss.utf8:
		name = "ESMTP"
	}
	if ss.utf8 {
		name = "UTF8" + name
	}
	if ss.wire.tlsName() != "" && (name != "SMTP") {
		name += "S"
	}
	return name
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}
