package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/facts"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/gateway/queue"
	"mailward/internal/message"
	"mailward/mailauth"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
)

// mail is one mail under way.
type mail struct {
	env        message.Envelope
	client     *hop.Client // who sends it, for next hops that want to know
	spool      *message.Spool
	recipients []recipient // all of one direction
	trusted    bool        // the client may relay: nobody asks who it is
	auth       mailauth.Result
	report     policy.Report
	links      []string        // domains that it links to
	targets    []string        // the links themselves
	header     []byte          // as received, up to headerLimit
	masked     []string        // fields of it that are not for the record
	edits      []message.Range // fields that are not passed on
	trace      []byte          // our lines on top
	class      policy.Class    // as decided
	scanMS     int64
	held       bool      // some recipients' copies are in quarantine
	dotBy      time.Time // until when it has to be with the next hop, or stays the client's
	// each gets the replies of single recipients, for LMTP; nil: the mail has one reply.
	each     map[string]error
	released *policy.Released // a person let this very mail go before; nil: nobody
	kept     []uuid.UUID      // deliveries that the relay has made on its way
	// proof is set for a test mail of ours: it is looked into and judged like any
	// other, and ends there. Only Prove can set it; nothing on the wire can.
	proof *proof
}

// answer notes the reply for one recipient, where the protocol has one for each.
func (m *mail) answer(address string, err error) {
	if m.each != nil {
		m.each[address] = err
	}
}

// policies is who gets the mail, for the decision.
func (m *mail) policies() []policy.Recipient {
	list := make([]policy.Recipient, len(m.recipients))
	for i, r := range m.recipients {
		list[i] = r.Recipient
	}
	return list
}

// rcpt is what the next hop hears of a recipient.
func (m *mail) rcpt(address string) hop.Recipient {
	for _, r := range m.recipients {
		if r.Address == address {
			return hop.Recipient{Address: address, Notify: r.notify, ORCPT: r.orcpt}
		}
	}
	return hop.Recipient{Address: address}
}

// direction is which way the mail goes: a transaction has one.
func (m *mail) direction() policy.Direction { return m.recipients[0].Direction }

// wishes are what the client asked to hear of its recipients.
func (m *mail) wishes() map[string]quarantine.Wish {
	w := map[string]quarantine.Wish{}
	for _, r := range m.recipients {
		w[r.Address] = quarantine.Wish{Notify: r.notify, ORCPT: r.orcpt}
	}
	return w
}

// handle is the whole story of a mail between its last dot and our reply. The
// same steps in words: docs/flow.md.
func (s *Server) handle(ctx context.Context, log *slog.Logger, m *mail) error {
	if m.proof == nil {
		defer s.metrics.observe(time.Now())
	}
	if m.spool.ReceivedCount() > maxReceived {
		return s.refuse(log, m, errLoop)
	}
	if m.spool.HeaderLen() > headerLimit {
		return s.refuse(log, m, errHeaderSize)
	}
	// From the next hop's having the mail on, its answer is waited for by the outer context.
	outer := ctx
	m.dotBy = time.Now().Add(s.limits.handle)
	ctx, cancel := context.WithDeadline(ctx, m.dotBy)
	defer cancel()
	var err error
	if m.edits, m.header, err = s.headerEdits(m.spool); err != nil {
		return s.refuse(log, m, err)
	}

	// Who sent it, and what is in it: at the same time.
	s.look(ctx, m)
	m.released = s.releasedBefore(ctx, log, m)

	// What to do. Pure, and no engine's silence is clean.
	d, err := s.decide(ctx, m)
	if err != nil {
		return s.refuse(log, m, err)
	}
	if m.proof != nil {
		return s.proven(m, d) // no record, no count, no copy: it was never anybody's mail
	}
	s.deps.Policies.Used(d)
	m.class, m.report.Findings, m.trace = d.Class, d.Findings, s.traceHeader(m, d)
	d = s.sign(ctx, log, m, d) // last, as it covers what goes on top

	// On record before anything follows from it.
	if err := s.deps.Ledger.Decided(ctx, s.ledgerRow(m, d)); err != nil {
		return s.refuse(log, m, err)
	}
	s.remember(m, d)
	s.metrics.decided(d)
	s.count(m, d)
	log.Info("mail decided", "class", d.Class, "action", d.Action, "recipients", len(d.Recipients), "size", m.spool.Size(), "scan_ms", m.scanMS, "failed_engines", d.FailedEngines)

	switch d.Action {
	case policy.Defer:
		s.outcomes(m, d.Recipients, ledger.Deferred, "", 451, "deferred")
		if len(d.FailedEngines) > 0 {
			return reply(withID(errEngines, m.env.ID))
		}
		return reply(withID(errDeferred, m.env.ID))
	case policy.Reject:
		return s.reject(ctx, log, m, d)
	}

	// Durable parts first, relay last: after the next hop's 250 nothing may fail.
	held := d.For(policy.Quarantine, policy.Hold)
	if len(held) > 0 {
		if err := s.hold(ctx, log, m, d, held); err != nil {
			return s.refuse(log, m, err)
		}
	}
	pass := d.For(policy.Deliver, policy.Tag)
	if len(pass) == 0 {
		return accepted(m.env.ID, "Accepted")
	}
	return s.relay(outer, log, m, pass)
}

// look checks the sender and scans the content, side by side; then the judges
// hear of both.
func (s *Server) look(ctx context.Context, m *mail) {
	var wg sync.WaitGroup
	if s.deps.Auth != nil && !m.trusted {
		wg.Go(func() { m.auth = s.deps.Auth.Check(ctx, m.env, m.spool) })
	}
	begin := time.Now()
	report, said := s.deps.Scanner.Scan(ctx, scanner.Job{MailID: m.env.ID, Spool: m.spool, Envelope: m.env})
	m.scanMS = time.Since(begin).Milliseconds()
	wg.Wait()
	before, sum := report, m.spool.SHA256()
	m.report, m.links, m.targets = report, facts.LinkDomains(said), facts.LinkTargets(said)
	s.deps.Scanner.Judge(ctx, scanner.Question{MailID: m.env.ID, Workspace: m.recipients[0].Domain.Workspace, Direction: m.direction(), EnvelopeFrom: m.env.From,
		Client: m.env.ClientIP, SHA256: hex.EncodeToString(sum[:]), Recipients: m.policies(), Sender: sender(m.auth), History: s.history(ctx, m), Content: said, Proof: m.proof != nil, Trial: m.proof != nil}, &report)
	m.report, m.masked = report, maskedFields(before, report)
}

// decide makes the decision. Where a reaction to an alert has become full since
// its input was put together, it is made once more without.
func (s *Server) decide(ctx context.Context, m *mail) (policy.Decision, error) {
	for {
		d := policy.Decide(s.input(m))
		if m.proof != nil || d.Action == policy.Defer {
			return d, nil
		}
		if ok, err := s.deps.Policies.Touch(ctx, m.env.ID, d.Touched); ok || err != nil {
			return d, err
		}
	}
}

// input is all that the decision hears.
func (s *Server) input(m *mail) policy.Input {
	workspace := m.recipients[0].Domain.Workspace
	measures := s.deps.Policies.Measures(workspace)
	if m.proof != nil {
		measures = nil // it proves what the engines find
	}
	return policy.Input{
		Report: m.report, Auth: facts.Auth(m.auth, m.trusted && m.direction() == policy.Outbound), Recipients: m.policies(), Entries: s.deps.Policies.Entries(workspace), Measures: measures,
		Mail:     policy.Mail{EnvelopeFrom: m.env.From, From: facts.Authors(m.report.HeaderFrom), ClientIP: m.env.ClientIP, LinkDomains: m.links},
		Released: m.released, SandboxConfigured: s.cfg.SandboxConfigured,
	}
}

// hold keeps the mail back for some recipients: file, then one transaction.
func (s *Server) hold(ctx context.Context, log *slog.Logger, m *mail, d policy.Decision, who []policy.RecipientDecision) error {
	item, err := s.deps.Quarantine.Hold(ctx, quarantine.Hold{Envelope: m.env, Spool: m.spool, Workspace: m.recipients[0].Domain.Workspace,
		Direction: m.direction(), Class: d.Class, Score: d.Score, Reasons: d.Reasons, Report: m.report, Recipients: who, TraceHeader: m.trace, HeaderEdits: m.edits, Auth: m.auth.JSON, Wishes: m.wishes(), Links: m.targets})
	if err != nil {
		return err
	}
	m.held = true
	for _, r := range who {
		m.answer(r.Address, accepted(m.env.ID, "Accepted"))
	}
	log.Info("mail held", "item", item, "recipients", len(who))
	s.outcomes(m, who, ledger.Quarantined, "", 250, "held as "+item.String())
	return nil
}

// reject refuses the mail for good. Refusing malware is an act that the audit
// wants to know, so a copy is not kept but the event is written first.
func (s *Server) reject(ctx context.Context, log *slog.Logger, m *mail, d policy.Decision) error {
	if err := s.deps.Audit.Record(ctx, rejectEvent(m, d)); err != nil {
		return s.refuse(log, m, err)
	}
	s.outcomes(m, d.Recipients, ledger.Rejected, "", 550, "rejected by policy")
	if domain, ok := d.RejectedFor(); ok {
		return reply(withID(&dmarcError{domain}, m.env.ID))
	}
	return reply(withID(errRejected, m.env.ID))
}

// relay passes the mail on in this same SMTP transaction: the next hop's reply
// becomes ours. Recipients that it does not want get rows of their own before
// the mail is handed over.
func (s *Server) relay(ctx context.Context, log *slog.Logger, m *mail, who []policy.RecipientDecision) error {
	route := m.recipients[0].Domain.NextHop
	t := hop.Transfer{From: m.env.From, UTF8: m.env.SMTPUTF8, Ret: m.env.Ret, DotBy: m.dotBy, EnvID: m.env.EnvID, Size: m.spool.Size() + int64(len(m.trace)), EightBit: m.spool.EightBit(), Head: m.trace,
		Body: message.Without(m.spool.File(), m.spool.Size(), m.edits)}
	t.Client = m.client
	for _, r := range who {
		t.To = append(t.To, m.rcpt(r.Address))
	}
	t.BeforeDot = func(refused map[string]*hop.Reply) error {
		ctx, cancel := context.WithDeadline(ctx, m.dotBy)
		defer cancel()
		return s.keepRefused(ctx, m, route, who, refused)
	}
	res := s.deps.Hops.Send(ctx, route, t)
	ctx, cancel := after(ctx)
	defer cancel()
	if res.Err != nil && !res.ReplyLost {
		s.dropKept(ctx, m)
	}
	var no *hop.Reply
	if errors.As(res.Err, &no) && no.Code/100 == 5 && m.held && m.each == nil {
		return s.refusedBesideHeld(ctx, log, m, route, who, no)
	}
	return s.relayed(ctx, log, m, route, who, res)
}

// after is time for what follows from a next hop's answer, also where waiting
// for it has taken all there was.
func after(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), afterLimit)
}

// refusedBesideHeld ends a mail that some recipients' next hop refuses for good
// while other copies are held here: a 5xx would tell the sender that nobody got
// it. So it is accepted, and the sender is told about those alone.
func (s *Server) refusedBesideHeld(ctx context.Context, log *slog.Logger, m *mail, route string, who []policy.RecipientDecision, no *hop.Reply) error {
	var refused []queue.Refusal
	for _, r := range who {
		refused = append(refused, queue.Refusal{Recipient: m.rcpt(r.Address), Reply: *no})
	}
	var err error
	if m.kept, err = s.deps.Queue.Undeliverable(ctx, m.queued(), route, refused); err != nil {
		return s.refuse(log, m, err)
	}
	s.beginKept(ctx, m)
	s.outcomes(m, who, ledger.Refused, route, no.Code, no.Text)
	return accepted(m.env.ID, "Accepted in part")
}

// relayed puts what the next hop said on record, and says it to the client.
func (s *Server) relayed(ctx context.Context, log *slog.Logger, m *mail, route string, who []policy.RecipientDecision, res hop.Result) error {
	var rest []policy.RecipientDecision
	for _, r := range who {
		if no := res.Refused[r.Address]; no != nil && res.Err == nil {
			st := ledger.Queued
			if !no.Temporary() || m.each != nil {
				st = ledger.Refused
			}
			s.outcome(m, r.Address, st, route, no.Code, no.Text)
			continue
		}
		rest = append(rest, r)
	}
	switch {
	case res.Err == nil:
		s.beginKept(ctx, m)
		if !res.DSN {
			s.tellRelayed(ctx, log, m, rest)
		}
		s.outcomes(m, rest, ledger.Relayed, route, res.Reply.Code, res.Reply.Text)
		s.metrics.mails.WithLabelValues("relayed").Inc()
		log.Info("mail relayed", "next_hop", route, "host", res.Host, "tls", res.TLS, "verified", res.Verified, "reply", res.Reply.Text)
		return accepted(m.env.ID, "Accepted: "+res.Reply.Text)
	case res.ReplyLost:
		// It may have the mail. The client tries again: a double at worst, never a loss.
		s.outcomes(m, who, ledger.OutcomeUnknown, route, 0, "the last reply was lost")
		log.Warn("next hop's last reply was lost", "next_hop", route, "error", res.Err)
		return reply(withID(res.Err, m.env.ID))
	}
	var no *hop.Reply
	if errors.As(res.Err, &no) {
		s.outcomes(m, who, ledger.Refused, route, no.Code, no.Text)
	} else {
		s.outcomes(m, who, ledger.Deferred, route, 451, "not passed on: "+hop.Harmless(res.Err.Error(), 200))
	}
	log.Info("mail not relayed", "next_hop", route, "error", res.Err)
	s.metrics.mails.WithLabelValues("not_relayed").Inc()
	return reply(withID(res.Err, m.env.ID))
}

// tellRelayed sends the reports that a client asked for and the next hop does
// not give. The mail is delivered, so a failure here is no failure of the mail.
func (s *Server) tellRelayed(ctx context.Context, log *slog.Logger, m *mail, who []policy.RecipientDecision) {
	to := make([]hop.Recipient, len(who))
	for i, r := range who {
		to[i] = m.rcpt(r.Address)
	}
	if err := s.deps.Queue.Relayed(ctx, m.queued(), to); err != nil {
		log.Error("sender not told that the mail was passed on", "error", err)
	}
}

// refuse ends a mail that could not be handled. The client hears what reply.go
// makes of err, which is "later" unless the mail itself is at fault.
func (s *Server) refuse(log *slog.Logger, m *mail, err error) error {
	log.Error("mail not handled", "error", err)
	if m.proof == nil {
		s.metrics.mails.WithLabelValues("failed").Inc()
		s.countFailed(m)
	}
	return reply(withID(err, m.env.ID))
}

func (s *Server) outcomes(m *mail, who []policy.RecipientDecision, st ledger.OutcomeState, route string, code int, text string) {
	for _, r := range who {
		s.outcome(m, r.Address, st, route, code, text)
	}
}

func (s *Server) outcome(m *mail, to string, st ledger.OutcomeState, route string, code int, text string) {
	s.deps.Ledger.Outcome(ledger.Outcome{MailID: m.env.ID, Recipient: to, State: st, NextHop: route, Code: code, Text: text, At: time.Now()})
}

func (s *Server) ledgerRow(m *mail, d policy.Decision) ledger.Row {
	sum := m.spool.SHA256()
	ip := ""
	if m.env.ClientIP.IsValid() {
		ip = m.env.ClientIP.String()
	}
	return ledger.Row{ID: m.env.ID, Workspace: m.recipients[0].Domain.Workspace, ReceivedAt: m.env.ReceivedAt, Direction: m.direction(), Node: s.cfg.Node, ClientIP: ip, Helo: m.env.Helo,
		TLS: m.env.TLS, EnvelopeFrom: m.env.From, Recipients: d.Recipients, HeaderFrom: m.report.HeaderFrom, Subject: m.report.Subject, MessageID: m.report.MessageID,
		Size: m.spool.Size(), SHA256: hex.EncodeToString(sum[:]), Class: d.Class, Action: d.Action, Score: d.Score, Reasons: d.Reasons, Findings: m.report.Findings,
		Engines: m.report.Engines, Parts: m.report.Parts, LinkDomains: m.links, Auth: m.auth.JSON, HeaderEdits: m.edits, RawHeader: maskFields(m.header[:min(len(m.header), rawHeaderKept)], m.masked), ScanMS: m.scanMS}
}

// rawHeaderKept bounds what the ledger keeps of each header.
const rawHeaderKept = 32 << 10
