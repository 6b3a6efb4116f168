package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/gateway/hop"
	"mailward/internal/message"
)

// Sign makes the signature of our own domain over a mail of ours; nothing where
// there is no key.
type Sign func(ctx context.Context, domain string, header []byte, body func() io.Reader) ([]byte, error)

// Letters post whole mails of ours, signed where there is a key.
type Letters struct {
	queue *Queue
	sign  Sign // may be nil
}

// NewLetters returns Letters.
func NewLetters(q *Queue, sign Sign) *Letters { return &Letters{q, sign} }

// Post queues a mail of a workspace in the caller's transaction, with an empty
// sender, so that nobody answers it (RFC 3834 §3.3).
func (l *Letters) Post(ctx context.Context, tx pgx.Tx, workspace uuid.UUID, to string, raw []byte) (uuid.UUID, error) {
	q := l.queue
	if q.route(to, "") == "" {
		return uuid.Nil, fmt.Errorf("%w %s", ErrNoRoute, to)
	}
	if l.sign != nil {
		end := bytes.Index(raw, []byte("\r\n\r\n")) + 4
		sig, err := l.sign(ctx, q.cfg.Hostname, raw[:end], func() io.Reader { return bytes.NewReader(raw[end:]) })
		if err != nil {
			return uuid.Nil, fmt.Errorf("sign a mail of ours: %w", err)
		}
		raw = append(sig, raw...)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make mail id: %w", err)
	}
	blob, err := q.deps.Quarantine.Store(ctx, workspace, bytes.NewReader(raw))
	if err != nil {
		return uuid.Nil, fmt.Errorf("keep a mail of ours: %w", err)
	}
	m := Mail{Workspace: workspace, Envelope: message.Envelope{ID: id, ReceivedAt: time.Now()}, Size: int64(len(raw))}
	r, err := q.newRow(DSN, m, hop.Recipient{Address: to, Notify: notifyNever}, blob)
	if err != nil {
		return uuid.Nil, err
	}
	r.wait = 0
	return r.id, q.write(ctx, tx, r)
}
