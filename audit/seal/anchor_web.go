package seal

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Webhook posts checkpoints as JSON, signed as Standard Webhooks has it where
// there is a secret. Its receipt is the answer.
type Webhook struct {
	URL    string
	Secret string // "": not signed
	Client *http.Client
	Now    func() time.Time
}

// Kind implements [Anchor].
func (Webhook) Kind() string { return "webhook" }

// Target implements [Anchor]: an address often holds a secret in its path.
func (w Webhook) Target() string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return "webhook"
	}
	return u.Scheme + "://" + u.Host
}

// receiptLimit bounds what is kept of an answer.
const receiptLimit = 4 << 10

// Send posts one checkpoint.
func (w Webhook) Send(ctx context.Context, c Signed) ([]byte, string, error) {
	body, err := json.Marshal(map[string]any{"type": "audit.checkpoint", "timestamp": w.Now().UTC().Format(time.RFC3339),
		"data": map[string]any{"origin": c.Origin, "size": c.Size, "root": base64.StdEncoding.EncodeToString(c.Root), "note": c.Note}})
	if err != nil {
		return nil, "", fmt.Errorf("encode checkpoint: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return nil, "", errors.New("the address of the webhook is none")
	}
	id, at := uuid.NewString(), strconv.FormatInt(w.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", at)
	if w.Secret != "" {
		mac := hmac.New(sha256.New, []byte(w.Secret))
		fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
		req.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	resp, err := w.Client.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("post checkpoint: %w", plain(err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, receiptLimit))
	if err != nil {
		return nil, "", fmt.Errorf("read answer of the webhook: %w", plain(err))
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, "", fmt.Errorf("the webhook answered %d", resp.StatusCode)
	}
	receipt, err := json.Marshal(map[string]any{"id": id, "status": resp.StatusCode, "date": resp.Header.Get("Date"), "answer": string(answer)})
	if err != nil {
		return nil, "", fmt.Errorf("keep answer of the webhook: %w", err)
	}
	return receipt, fmt.Sprintf("taken with %d", resp.StatusCode), nil
}

// plain leaves the address out of an error of the HTTP client: it can be a secret.
func plain(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// HTTPClient is for anchors: no redirect takes a checkpoint or a secret elsewhere.
func HTTPClient() *http.Client {
	return &http.Client{Timeout: anchorLimit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Postman queues a mail of ours for delivery.
type Postman interface {
	Notice(ctx context.Context, to, subject, text string) (id uuid.UUID, err error)
}

// Mail sends checkpoints to a mailbox, by the gateway's own delivery queue. Its
// receipt is the delivery: what became of it stands in the queue.
type Mail struct {
	To      string
	Postman Postman
}

// Kind implements [Anchor].
func (Mail) Kind() string { return "email" }

// Target implements [Anchor].
func (m Mail) Target() string { return m.To }

// Send queues a mail with the note as it is.
func (m Mail) Send(ctx context.Context, c Signed) ([]byte, string, error) {
	text := fmt.Sprintf("This is a checkpoint of the audit %s: %d events, signed %s.\n\nKeep this mail. If it is ever in doubt whether the record was changed, the part between the\nlines, saved as a file, is what it is compared with:\n\n    mailward audit verify --checkpoint FILE BUNDLE\n\n-----BEGIN CHECKPOINT-----\n%s-----END CHECKPOINT-----\n",
		c.Origin, c.Size, c.SignedAt.UTC().Format(time.RFC3339), c.Note)
	id, err := m.Postman.Notice(ctx, m.To, fmt.Sprintf("Checkpoint of %s: %d events", c.Origin, c.Size), text)
	if err != nil {
		return nil, "", err
	}
	return fmt.Appendf(nil, "{\"delivery\":%q}", id), "queued as delivery " + id.String(), nil
}
