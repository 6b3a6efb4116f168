package gateway

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	insertDeliverySQL = pg.Query(queryFiles, "insert_delivery")
	cancelSQL         = pg.Query(queryFiles, "cancel")
	claimSQL          = pg.Query(queryFiles, "claim")
	renewSQL          = pg.Query(queryFiles, "renew")
	dotSQL            = pg.Query(queryFiles, "dot")
	finishSQL         = pg.Query(queryFiles, "finish")
	retrySQL          = pg.Query(queryFiles, "retry")
	queueAgeSQL       = pg.Query(queryFiles, "queue_age")
)

// giveUpAfter is how long a mail is tried (RFC 5321 §4.5.4.1).
const giveUpAfter = 5 * 24 * time.Hour

// keepRefused makes what we then owe durable, before the next hop takes the
// mail for the others: a later try for a recipient that was refused for now,
// and a word to the sender (RFC 3464) about one that was refused for good. If
// it fails, nobody gets the mail and the client tries again.
func (s *Server) keepRefused(ctx context.Context, m *mail, route string, refused map[string]*hop.Reply) error {
	if len(refused) == 0 {
		return nil
	}
	var later, never []string
	for to, no := range refused {
		if no.Temporary() {
			later = append(later, to)
		} else {
			never = append(never, to)
		}
	}
	if len(later) > 0 {
		ref, err := s.deps.Quarantine.Blobs().Put(ctx, m.spool.NewReader())
		if err != nil {
			return fmt.Errorf("keep mail for later: %w", err)
		}
		for _, to := range later {
			d := newDelivery("relay", m.recipients[0].Domain.Workspace, m.env, to, ref)
			d.edits, d.trace, d.eightBit = m.edits, m.trace, m.spool.EightBit()
			id, err := s.insertDelivery(ctx, d)
			if err != nil {
				return err
			}
			m.kept = append(m.kept, id)
		}
	}
	for _, to := range never {
		id, err := s.bounce(ctx, m.recipients[0].Domain.Workspace, m.env.ID, m.env.From, to, m.header, refused[to], route)
		if err != nil {
			return err
		}
		if id != uuid.Nil {
			m.kept = append(m.kept, id)
		}
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
	err := s.deps.DB.Act(ctx, pg.System("gateway", "mail "+m.env.ID.String()), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, cancelSQL, m.kept)
		return err
	})
	if err != nil {
		s.log.Error("deliveries of a refused mail not cancelled", "mail", m.env.ID, "error", err)
	}
}

// newMailDelivery is a row of the delivery queue.
type newMailDelivery struct {
	workspace, mailID uuid.UUID
	kind, from, to    string
	ref               quarantine.Ref
	edits             []message.Range
	trace             []byte
	eightBit          bool
}

func newDelivery(kind string, workspace uuid.UUID, env message.Envelope, to string, ref quarantine.Ref) newMailDelivery {
	return newMailDelivery{workspace: workspace, mailID: env.ID, kind: kind, from: env.From, to: to, ref: ref}
}

func (s *Server) insertDelivery(ctx context.Context, d newMailDelivery) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make delivery id: %w", err)
	}
	if d.edits == nil {
		d.edits = []message.Range{}
	}
	if d.trace == nil {
		d.trace = []byte{}
	}
	edits, err := json.Marshal(d.edits)
	if err != nil {
		return uuid.Nil, fmt.Errorf("encode header edits: %w", err)
	}
	err = s.deps.DB.Act(ctx, pg.System("gateway", "mail "+d.mailID.String()), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertDeliverySQL, id, d.workspace, d.kind, d.mailID, d.from, d.to, d.ref.Key, d.ref.Name, edits, d.trace, d.eightBit, time.Now().Add(giveUpAfter))
		return err
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("queue delivery: %w", err)
	}
	return id, nil
}

// bounce queues a delivery status notification to the sender. The null sender
// gets none (RFC 5321 §6.1), and a sender that we have no route to cannot be
// told: both are put on record, and there is no delivery.
func (s *Server) bounce(ctx context.Context, workspace, mailID uuid.UUID, sender, failed string, header []byte, no *hop.Reply, route string) (uuid.UUID, error) {
	note := func(text string) (uuid.UUID, error) {
		s.deps.Ledger.Outcome(ledger.Outcome{MailID: mailID, Recipient: failed, State: ledger.Failed, NextHop: route, Code: no.Code, Text: text, At: time.Now()})
		return uuid.Nil, nil
	}
	if sender == "" {
		return note("refused; the sender is empty, so nobody is told")
	}
	if _, ok := s.deps.Policies.Lookup(sender); !ok && s.defaultHop() == "" {
		return note("refused; there is no route to the sender, so nobody is told")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make notification id: %w", err)
	}
	b := notification(s.cfg.Hostname, id, mailID, sender, failed, header, no)
	ref, err := s.deps.Quarantine.Blobs().Put(ctx, bytes.NewReader(b))
	if err != nil {
		return uuid.Nil, fmt.Errorf("keep notification: %w", err)
	}
	return s.insertDelivery(ctx, newMailDelivery{workspace: workspace, mailID: mailID, kind: "dsn", to: sender, ref: ref, eightBit: false})
}

// defaultHop is where mail goes that is for none of our domains.
func (s *Server) defaultHop() string { return s.deps.Policies.DefaultHop() }

// notification is a delivery status notification (RFC 3464) about one recipient.
func notification(hostname string, id, mailID uuid.UUID, sender, failed string, header []byte, no *hop.Reply) []byte {
	status := no.Enhanced
	if status == "" {
		status = fmt.Sprintf("%d.0.0", no.Code/100)
	}
	boundary := "mailward-" + id.String()
	head := asciiHeader(header)
	var b strings.Builder
	w := func(format string, a ...any) { fmt.Fprintf(&b, format+"\r\n", a...) }
	w("From: Mail Delivery System <postmaster@%s>", hostname)
	w("To: <%s>", hop.Harmless(sender, 320))
	w("Subject: Undelivered mail")
	w("Date: %s", time.Now().UTC().Format(time.RFC1123Z))
	w("Message-ID: <%s@%s>", id, hostname)
	w("Auto-Submitted: auto-replied")
	w("MIME-Version: 1.0")
	w("Content-Type: multipart/report; report-type=delivery-status; boundary=\"%s\"", boundary)
	w("")
	w("--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n", boundary)
	w("Your mail could not be delivered to %s.\r\n", hop.Harmless(failed, 320))
	w("The mail server of the recipient said:\r\n\r\n  %d %s %s\r\n", no.Code, status, no.Text)
	w("--%s\r\nContent-Type: message/delivery-status\r\n", boundary)
	w("Reporting-MTA: dns; %s", hostname)
	w("X-Mailward-ID: %s\r\n", mailID)
	w("Final-Recipient: rfc822; %s", hop.Harmless(failed, 320))
	w("Action: failed")
	w("Status: %s", status)
	w("Diagnostic-Code: smtp; %d %s %s\r\n", no.Code, status, no.Text)
	w("--%s\r\nContent-Type: text/rfc822-headers\r\n", boundary)
	b.WriteString(head)
	w("\r\n--%s--", boundary)
	return []byte(b.String())
}

// asciiHeader is as much of the failed mail's header as a notification may carry.
func asciiHeader(h []byte) string {
	h = h[:min(len(h), 16<<10)]
	lines := strings.Split(strings.TrimRight(string(h), "\r\n"), "\r\n")
	for i, l := range lines {
		fold := ""
		if strings.HasPrefix(l, " ") || strings.HasPrefix(l, "\t") {
			fold = " "
		}
		lines[i] = fold + hop.Harmless(l, 990)
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// mailReject is the act of refusing a mail for good.
const mailReject = "mail.reject"

func rejectEvent(m *mail, d policy.Decision) audit.Event {
	targets := []audit.Target{{Type: "mail", ID: m.env.ID.String(), Label: string(d.Class)}}
	for _, r := range d.Recipients {
		targets = append(targets, audit.Target{Type: "mailbox", ID: r.Domain, PII: r.Address})
	}
	return audit.Event{Action: mailReject, Workspace: m.recipients[0].Domain.Workspace, Actor: pg.System("gateway", "mail "+m.env.ID.String()),
		Targets: targets, Reason: strings.Join(d.Reasons, "; "), ReasonCode: string(d.Class), Correlation: audit.Correlation{MailID: m.env.ID.String()}}
}
