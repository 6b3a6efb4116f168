package queue

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/hop"
	"mailward/gateway/ledger"
)

// Undeliverable queues a delivery status notification (RFC 3464) to the sender
// about recipients that were refused for good. The null sender gets none (RFC
// 5321 §6.1), and a sender that we have no route to cannot be told: both are
// put on record, and there is no delivery.
func (q *Queue) Undeliverable(ctx context.Context, m Mail, route string, refused map[string]*hop.Reply) (ids []uuid.UUID, err error) {
	for to, no := range refused {
		id, err := q.bounce(ctx, m, route, to, no)
		if err != nil {
			return nil, err
		}
		if id != uuid.Nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (q *Queue) bounce(ctx context.Context, m Mail, route, failed string, no *hop.Reply) (uuid.UUID, error) {
	note := func(text string) (uuid.UUID, error) {
		q.deps.Ledger.Outcome(ledger.Outcome{MailID: m.Envelope.ID, Recipient: failed, State: ledger.Failed, NextHop: route, Code: no.Code, Text: text, At: time.Now()})
		return uuid.Nil, nil
	}
	sender := m.Envelope.From
	if sender == "" {
		return note("refused; the sender is empty, so nobody is told")
	}
	if _, ok := q.deps.Policies.Lookup(sender); !ok && q.deps.Policies.DefaultHop() == "" {
		return note("refused; there is no route to the sender, so nobody is told")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make notification id: %w", err)
	}
	b := notification(q.cfg.Hostname, id, m.Envelope.ID, sender, failed, m.Header, no)
	ref, err := q.deps.Quarantine.Blobs().Put(ctx, bytes.NewReader(b))
	if err != nil {
		return uuid.Nil, fmt.Errorf("keep notification: %w", err)
	}
	return q.insert(ctx, delivery{Workspace: m.Workspace, MailID: m.Envelope.ID, Kind: "dsn", To: sender, Key: ref.Key, Name: ref.Name}, nil)
}

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
