package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/internal/message"
	"mailward/quarantine"
)

// What a sender can ask to hear of a recipient (RFC 3461 §4.1).
const (
	notifyNever   = "NEVER"
	notifySuccess = "SUCCESS"
	notifyFailure = "FAILURE"
	notifyDelay   = "DELAY"
)

// wants says whether a sender is to hear of something. Who said nothing hears
// of failures and delays.
func wants(notify, what string) bool {
	if notify == "" {
		return what != notifySuccess
	}
	for n := range strings.SplitSeq(strings.ToUpper(notify), ",") {
		if n == what {
			return true
		}
	}
	return false
}

// What a notification says of a recipient (RFC 3464 §2.3.3).
type action string

const (
	actionFailed  action = "failed"
	actionDelayed action = "delayed"
	actionRelayed action = "relayed"
)

// wish is what a sender must want in order to hear of it.
func (a action) wish() string {
	return map[action]string{actionFailed: notifyFailure, actionDelayed: notifyDelay, actionRelayed: notifySuccess}[a]
}

// fate is what became of one recipient's copy.
type fate struct {
	rcpt   hop.Recipient
	action action
	reply  hop.Reply // code 0: not the words of a mail server, so not for the sender
	gaveUp bool
	taken  bool      // out of the queue, by a person
	until  time.Time // how long a delayed one is tried
}

// Refusal is a recipient that a next hop refused, and what it said.
type Refusal struct {
	Recipient hop.Recipient
	Reply     hop.Reply
}

// Undeliverable queues a notification (RFC 3464) to the sender about recipients
// that were refused for good. Who is told nothing, and why, is put on record.
func (q *Queue) Undeliverable(ctx context.Context, m Mail, route string, refused []Refusal) (ids []uuid.UUID, err error) {
	fates := make([]fate, len(refused))
	for i, r := range refused {
		fates[i] = fate{rcpt: r.Recipient, action: actionFailed, reply: r.Reply}
		if why := untold(m, q.hasRoute(m.Envelope.From), wants(r.Recipient.Notify, notifyFailure)); why != "" {
			q.deps.Ledger.Outcome(ledger.Outcome{MailID: m.Envelope.ID, Recipient: r.Recipient.Address, State: ledger.Failed, NextHop: route, Code: r.Reply.Code, Text: "refused; " + why, At: time.Now()})
		}
	}
	dsn, err := q.notification(ctx, m, fates)
	if err != nil || dsn == nil {
		return nil, err
	}
	return q.insert(ctx, m.Envelope.ID, []row{*dsn})
}

// Relayed tells the sender who asked for it that the mail has gone to a next
// hop that did not take over such wishes (RFC 3461 §5.2.1).
func (q *Queue) Relayed(ctx context.Context, m Mail, to []hop.Recipient) error {
	var fates []fate
	for _, r := range to {
		fates = append(fates, fate{rcpt: r, action: actionRelayed})
	}
	dsn, err := q.notification(ctx, m, fates)
	if err != nil || dsn == nil {
		return err
	}
	dsn.wait = 0
	_, err = q.insert(ctx, m.Envelope.ID, []row{*dsn})
	return err
}

// tell prepares the notification that the end of a delivery owes its sender.
// The failure of a release is for those who decided on it: its sender, who may
// be forged, hears nothing. A notification that fails is never answered (RFC
// 5321 §6.1: no loops).
func (q *Queue) tell(ctx context.Context, d delivery, e *end) (err error) {
	f := fate{rcpt: d.rcpt(), reply: e.reply, gaveUp: e.gaveUp}
	switch {
	case d.Kind == DSN:
		return nil
	case e.state == Failed && d.Kind == Relay:
		f.action = actionFailed
	case e.state == Delivered && !e.wishesTaken && wants(d.Notify, notifySuccess):
		f.action = actionRelayed
	default:
		return nil
	}
	if e.dsn, err = q.notification(ctx, q.mail(d), []fate{f}); e.dsn != nil {
		e.dsn.wait = 0
	}
	return err
}

// untold says why a sender is not told, or "".
func untold(m Mail, reachable, wanted bool) string {
	switch {
	case m.Envelope.From == "":
		return "the sender is empty, so nobody is told"
	case m.Suspect:
		return "the sender is likely forged, so nobody is told"
	case !wanted:
		return "the sender does not want to be told"
	case !reachable:
		return "there is no route to the sender, so nobody is told"
	}
	return ""
}

func (q *Queue) hasRoute(sender string) bool { return q.route(sender, "") != "" }

// fullMost bounds what is returned where the sender asked for all of the mail
// (RFC 3461 §6.2 lets a size decide); headerMost what is returned else.
const (
	fullMost   = 1 << 20
	headerMost = 32 << 10
)

// notification makes a notification durable and returns its row, which is not
// in the database yet. It returns nil where the sender is not to be told.
func (q *Queue) notification(ctx context.Context, m Mail, fates []fate) (*row, error) {
	var told []fate
	for _, f := range fates {
		if untold(m, q.hasRoute(m.Envelope.From), wants(f.rcpt.Notify, f.action.wish())) == "" {
			told = append(told, f)
		}
	}
	if len(told) == 0 {
		return nil, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make notification id: %w", err)
	}
	r := report{id: id, boundary: "mailward-" + uuid.NewString(), mailID: m.Envelope.ID, hostname: q.cfg.Hostname, sender: m.Envelope.From, envID: m.Envelope.EnvID,
		arrived: m.Envelope.ReceivedAt, now: time.Now(), utf8: !message.IsASCII(m.Envelope.From), fates: told}
	original, err := q.original(ctx, m, &r)
	if err != nil {
		return nil, err
	}
	if original != nil {
		defer original.Close()
	}
	before, after := r.render()
	body := &counter{r: bytes.NewReader(append(before, after...))}
	if r.full {
		body.r = io.MultiReader(bytes.NewReader(before), original, bytes.NewReader(after))
	}
	blob, err := q.deps.Quarantine.Store(ctx, m.Workspace, body)
	if err != nil {
		return nil, fmt.Errorf("keep notification: %w", err)
	}
	env := m.Envelope
	env.From, env.ReceivedAt, env.SMTPUTF8, env.Ret, env.EnvID = "", r.now, r.utf8, "", ""
	// RFC 3461 §6.1: nobody is to be told about a notification.
	row, err := q.newRow(DSN, Mail{Workspace: m.Workspace, Envelope: env, Size: body.n, EightBit: r.utf8 || r.full && m.EightBit}, hop.Recipient{Address: m.Envelope.From, Notify: notifyNever}, blob)
	if err != nil {
		return nil, err
	}
	row.id = id
	q.metrics.dsns.WithLabelValues(string(told[0].action)).Inc()
	return &row, nil
}

// original finds what of the mail goes back. It opens the mail where all of it
// does. Bytes that cannot be read any more do not keep the sender from hearing.
func (q *Queue) original(ctx context.Context, m Mail, r *report) (io.ReadCloser, error) {
	f, known := q.deps.Hops.Features(q.route(m.Envelope.From, ""))
	whole := strings.EqualFold(m.Envelope.Ret, "FULL") && r.fates[0].action == actionFailed && m.Size > 0 && m.Size <= fullMost &&
		(!m.EightBit || known && f.EightBitMIME) && (r.utf8 || !m.Envelope.SMTPUTF8)
	if m.Header != nil && !whole || m.Open == nil {
		r.header = m.Header[:min(len(m.Header), headerMost)]
		return nil, nil
	}
	in, err := m.Open(ctx)
	if _, gone := hopeless(err); gone {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read mail for its notification: %w", err)
	}
	if whole {
		r.full, r.eightBit = true, m.EightBit
		return in, nil
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, headerMost))
	if err != nil && !errors.Is(err, quarantine.ErrBlobDamaged) {
		return nil, fmt.Errorf("read header for its notification: %w", err)
	}
	if i := bytes.Index(append([]byte("\r\n"), b...), []byte("\r\n\r\n")); i >= 0 {
		b = b[:i]
	}
	r.header = b
	return nil, nil
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
