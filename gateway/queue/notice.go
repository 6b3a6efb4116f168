package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/hop"
	"mailward/internal/message"
	"mailward/policy"
)

// ErrNoRoute means that there is no way to a recipient.
var ErrNoRoute = errors.New("queue: there is no route to the recipient")

// Notice queues a plain mail of ours, and returns the id of its delivery. It has
// an empty sender, so that nobody answers it (RFC 3834 §3.3).
func (q *Queue) Notice(ctx context.Context, to, subject, text string) (uuid.UUID, error) {
	if q.route(to, "") == "" {
		return uuid.Nil, fmt.Errorf("%w %s", ErrNoRoute, to)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make mail id: %w", err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Mailward <postmaster@%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n", q.cfg.Hostname, strings.NewReplacer("\r", "", "\n", "").Replace(to),
		mime.QEncoding.Encode("utf-8", subject), time.Now().UTC().Format(time.RFC1123Z), id, q.cfg.Hostname)
	b.WriteString("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
		return uuid.Nil, fmt.Errorf("write notice: %w", err)
	}
	if err := w.Close(); err != nil {
		return uuid.Nil, fmt.Errorf("write notice: %w", err)
	}
	blob, err := q.deps.Quarantine.Store(ctx, policy.DefaultWorkspace, bytes.NewReader(b.Bytes()))
	if err != nil {
		return uuid.Nil, fmt.Errorf("keep notice: %w", err)
	}
	m := Mail{Workspace: policy.DefaultWorkspace, Envelope: message.Envelope{ID: id, ReceivedAt: time.Now()}, Size: int64(b.Len())}
	r, err := q.newRow(DSN, m, hop.Recipient{Address: to, Notify: notifyNever}, blob)
	if err != nil {
		return uuid.Nil, err
	}
	r.wait = 0
	if _, err := q.insert(ctx, id, []row{r}); err != nil {
		return uuid.Nil, err
	}
	return r.id, nil
}
