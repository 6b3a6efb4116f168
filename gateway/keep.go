package gateway

import (
	"context"
	"io"
	"time"

	"mailward/audit"
	"mailward/gateway/hop"
	"mailward/gateway/queue"
	"mailward/internal/pg"
	"mailward/policy"
)

// queued is the mail as the delivery queue knows it.
func (m *mail) queued() queue.Mail {
	sum := m.spool.SHA256()
	return queue.Mail{Sum: sum[:], Workspace: m.recipients[0].Domain.Workspace, Envelope: m.env, Header: m.header, Edits: m.edits, Trace: m.trace, Size: m.spool.Size(),
		EightBit: m.spool.EightBit(), Suspect: suspect(m.class),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(m.spool.NewReader()), nil }}
}

// suspect says whether the sender of such mail is likely forged: a notification
// would go to somebody who has sent nothing (RFC 5321 §6.2).
func suspect(c policy.Class) bool {
	return c == policy.Spam || c == policy.Phishing || c == policy.Malware || c == policy.Suspicious
}

// keepRefused makes what we then owe durable, before the next hop takes the
// mail for the others: a later try for a recipient that was refused for now,
// and a word to the sender (RFC 3464) about one that was refused for good. If
// it fails, nobody gets the mail and the client tries again.
func (s *Server) keepRefused(ctx context.Context, m *mail, route string, who []policy.RecipientDecision, refused map[string]*hop.Reply) error {
	var later, never []queue.Refusal
	for _, r := range who {
		switch no := refused[r.Address]; {
		case no == nil:
		case m.each != nil:
			// LMTP says so of this recipient alone, and the client keeps its copy.
			m.answer(r.Address, reply(withID(no, m.env.ID)))
		case no.Temporary():
			later = append(later, queue.Refusal{Recipient: m.rcpt(r.Address), Reply: *no})
		default:
			never = append(never, queue.Refusal{Recipient: m.rcpt(r.Address), Reply: *no})
		}
	}
	if len(later) > 0 {
		ids, err := s.deps.Queue.Later(ctx, m.queued(), later)
		if err != nil {
			return err
		}
		m.kept = append(m.kept, ids...)
	}
	if len(never) > 0 {
		ids, err := s.deps.Queue.Undeliverable(ctx, m.queued(), route, never)
		if err != nil {
			return err
		}
		m.kept = append(m.kept, ids...)
	}
	return nil
}

// dropKept takes the rows of keepRefused back: the next hop did not take the
// mail after all, so it stays the client's, with all recipients. If this fails,
// some of them get it twice at worst.
func (s *Server) dropKept(ctx context.Context, m *mail) {
	if len(m.kept) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.deps.Queue.Cancel(ctx, m.env.ID, m.kept); err != nil {
		s.log.Error("deliveries of a refused mail not cancelled", "mail", m.env.ID, "error", err)
	}
}

// beginKept ends the wait of the rows of keepRefused: the session is over for
// them. If this fails they begin ten minutes later.
func (s *Server) beginKept(ctx context.Context, m *mail) {
	if len(m.kept) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.deps.Queue.Begin(ctx, m.env.ID, m.kept); err != nil {
		s.log.Warn("deliveries of a mail begin late", "mail", m.env.ID, "error", err)
	}
}

// mailReject is the act of refusing a mail for good.
const mailReject = "mail.reject"

func rejectEvent(m *mail, d policy.Decision) audit.Event {
	targets := []audit.Target{{Type: "mail", ID: m.env.ID.String(), Label: string(d.Class)}}
	for _, r := range d.Recipients {
		targets = append(targets, audit.Target{Type: "mailbox", ID: r.Domain, PII: r.Address})
	}
	return audit.Event{Action: mailReject, Workspace: m.recipients[0].Domain.Workspace, Actor: pg.System("gateway", "mail "+m.env.ID.String()),
		Targets: targets, Reason: policy.ForRecord(d.Reasons, m.report.Findings), ReasonCode: string(d.Class), Correlation: audit.Correlation{MailID: m.env.ID.String()}}
}
