package gateway

import (
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"mailward/gateway/limit"
	"mailward/internal/message"
	"mailward/policy"
)

// Mail implements [smtp.Session].
func (ss *session) Mail(from string, opts *smtp.MailOptions) error {
	if ss.open {
		// RFC 5321 §4.1.4. go-smtp would keep the recipients of the first one.
		return reply(errNested)
	}
	if ss.s.isClosing() {
		return reply(errShuttingDown)
	}
	if t := ss.forwarded(); t != nil {
		ss.clientIP = t.Addr
	}
	if !ss.s.deps.Policies.Ready() {
		return reply(errNotReady)
	}
	if opts.RequireTLS {
		return reply(errParameter) // RFC 8689 is not offered.
	}
	can := ss.s.carries()
	if !message.IsASCII(from) && !opts.UTF8 || opts.UTF8 && !can.SMTPUTF8 {
		return reply(withdrawn(errUTF8Address, opts.UTF8 && ss.wire.offered.SMTPUTF8))
	}
	if (opts.Return != "" || opts.EnvelopeID != "") && !can.DSN {
		return reply(withdrawn(errParameter, ss.wire.offered.DSN))
	}
	if ss.s.tooBig(ss.peer, opts.Size) {
		return reply(message.ErrTooBig)
	}
	if from != "" {
		var err error
		if from, err = mailbox(from); err != nil {
			return reply(errSender)
		}
	}
	if err := ss.s.deps.Spooler.Room(opts.Size); err != nil {
		return reply(err)
	}
	if err := ss.admitMail(from, opts.Size); err != nil {
		return reply(err)
	}
	ss.envelope = envelope{open: true, from: from, size: opts.Size, eightBit: opts.Body == smtp.Body8BitMIME, utf8: opts.UTF8, ret: string(opts.Return), envID: message.Xtext(opts.EnvelopeID)}
	return nil
}

// withdrawn is what is said of an extension that no route carries any more: what was
// offered in this very session must not bounce for it (RFC 5321 §4.1.1.11, 455).
func withdrawn(err error, offered bool) error {
	if offered {
		return errWithdrawn
	}
	return err
}

// Rcpt implements [smtp.Session].
func (ss *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	if !message.IsASCII(to) && !ss.utf8 {
		return reply(errUTF8Address)
	}
	orcpt := originalRecipient(opts)
	if orcpt == "" {
		orcpt = ss.wire.orcpt
	}
	if (len(opts.Notify) > 0 || orcpt != "") && !ss.s.carries().DSN {
		return reply(withdrawn(errParameter, ss.wire.offered.DSN))
	}
	address, err := mailbox(to)
	if err != nil {
		return reply(err)
	}
	r, err := ss.recipientFor(address)
	if err != nil {
		return reply(err)
	}
	for _, have := range ss.recipients {
		if have.Address == r.Address {
			ss.said = append(ss.said, said{to, r.Address})
			return nil // The same recipient twice gets one copy.
		}
	}
	// The reply to DATA comes from one next hop, for all recipients.
	if len(ss.recipients) > 0 && !sameWay(ss.recipients[0].Recipient, r) {
		return reply(errOtherRoute)
	}
	if ss.s.tooManyFor(r.Domain.NextHop, len(ss.recipients)) {
		return reply(errManyRecipients)
	}
	if err := ss.admitRecipient(r); err != nil {
		return reply(err)
	}
	if ss.s.tooBigFor(r.Domain.NextHop, ss.size) {
		return reply(errRouteSize) // RFC 1870 §6.1: the size is not only the server's to take.
	}
	ss.recipients = append(ss.recipients, recipient{Recipient: r, notify: notify(opts.Notify), orcpt: orcpt})
	ss.said = append(ss.said, said{to, r.Address})
	return nil
}

// route finds out whether mail for an address is taken here, and where it goes.
func (s *Server) route(to string) (policy.Recipient, error) {
	r, ok := s.deps.Policies.Lookup(to)
	if !ok && strings.EqualFold(to, "postmaster@"+s.cfg.Hostname) {
		// RFC 5321 §4.5.1: postmaster is always taken, also without a domain.
		r, ok = s.deps.Policies.Postmaster()
	}
	switch {
	case !ok:
		s.metrics.relayDenied.Inc()
		return r, errRelayDenied
	case r.Domain.NextHop == "":
		return r, errNoRoute
	}
	return r, nil
}

// admitRecipient asks whether the client may write to the recipient, and
// whether that one exists. Postmaster and abuse are always taken (RFC 5321
// §4.5.1, RFC 2142 §4): whoever has trouble with us writes there. Nobody is asked
// about recipients elsewhere in the world.
func (ss *session) admitRecipient(r policy.Recipient) error {
	d := ss.s.deps
	if d.Guard != nil && !ss.wire.opt.lmtp {
		if err := d.Guard.Rcpt(ss.s.base, ss.clientIP, ss.from, r.Address); err != nil {
			return err
		}
	}
	if limit.Exempt(r.Address) || r.Direction == policy.Outbound {
		return nil
	}
	if known, listed := d.Lists.Known(r.Address); listed {
		if !known {
			return errNoRecipient
		}
		return nil
	}
	if d.Recipients != nil {
		ss.lookAhead(r)
		if no := d.Recipients.Known(ss.s.base, r.Domain.NextHop, r.Address); no != nil {
			return no
		}
	}
	return nil
}

// lookAhead has the next hop asked about a recipient and about those that the
// client has named behind it without waiting for our replies (RFC 2920), all
// together.
func (ss *session) lookAhead(r policy.Recipient) {
	if ss.ahead > 0 {
		ss.ahead--
		return
	}
	list := []string{r.Address}
	paths := ss.wire.pathsAhead()
	for _, p := range paths {
		a, err := mailbox(p)
		if err != nil || limit.Exempt(a) || routed(a) {
			continue
		}
		if _, listed := ss.s.deps.Lists.Known(a); listed {
			continue
		}
		if next, ok := ss.s.deps.Policies.Lookup(a); ok && sameWay(r, next) {
			list = append(list, next.Address)
		}
	}
	ss.ahead = len(paths)
	if len(list) > 1 {
		ss.s.deps.Recipients.Expect(r.Domain.NextHop, list...)
	}
}

func (ss *session) admitMail(from string, size int64) error {
	if g := ss.s.deps.Guard; g != nil && !ss.wire.opt.lmtp {
		return g.Mail(ss.s.base, ss.clientIP, from, size)
	}
	return nil
}

// notify is what a client wants to hear (RFC 3461 §4.1), as it said it.
func notify(list []smtp.DSNNotify) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = string(n)
	}
	return strings.Join(words, ",")
}

// originalRecipient is ORCPT (RFC 3461 §4.2, RFC 6533 §3) as it goes on the wire.
func originalRecipient(o *smtp.RcptOptions) string {
	if o.OriginalRecipient == "" {
		return ""
	}
	if strings.EqualFold(string(o.OriginalRecipientType), "utf-8") {
		return "utf-8;" + utf8Xtext(o.OriginalRecipient)
	}
	return strings.ToLower(string(o.OriginalRecipientType)) + ";" + message.Xtext(o.OriginalRecipient)
}

// utf8Xtext writes an internationalised address in ASCII (RFC 6533 §3,
// utf-8-addr-xtext).
func utf8Xtext(v string) string {
	var b strings.Builder
	for _, r := range v {
		if r <= ' ' || r > '~' || r == '+' || r == '=' || r == '\\' {
			fmt.Fprintf(&b, `\x{%X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
