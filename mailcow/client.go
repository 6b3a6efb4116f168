package mailcow

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	callTime = 10 * time.Second
	// answerMost bounds one answer: a list of 100,000 mailboxes has about 80 MB.
	answerMost = 128 << 20
	// lockedFor is how long mailcow is left alone after it has refused our key. It
	// counts wrong keys and then shuts our address out, for SMTP, too.
	lockedFor = time.Hour
)

// Errors that callers tell apart. All others are plain trouble.
var (
	ErrDenied   = errors.New("mailcow: the key is refused")
	ErrReadOnly = errors.New("mailcow: the key may only read")
	ErrExists   = errors.New("mailcow: there already")
	ErrInvalid  = errors.New("mailcow: refused")
	// ErrUnknown: no answer came to a change, which may have been made.
	ErrUnknown = errors.New("mailcow: no answer to a change")
)

// Config says where mailcow is.
type Config struct {
	URL string // https://mail.example.org
	Key string // of its API
	// Roots are whose certificates are believed; nil: the system's.
	Roots *x509.CertPool
}

// Client speaks to the API of one mailcow. It is safe for use by many.
type Client struct {
	cfg  Config
	http *http.Client
	now  func() time.Time

	mu     sync.Mutex // guards locked
	locked time.Time  // until when we do not ask
}

// New returns a client. Nothing is asked yet.
func New(cfg Config) *Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig, t.Proxy = &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}, nil
	return &Client{cfg: cfg, now: time.Now, http: &http.Client{Transport: t, Timeout: callTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// get reads a list or an object into out.
func (c *Client) get(ctx context.Context, path string, out any) error {
	b, err := c.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	// An empty list is {}, and so is an object that is not there.
	if bytes.Equal(b, []byte("{}")) {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("mailcow: %s: not what its API answers: %w", path, err)
	}
	return nil
}

// call makes one call and gives the body of a 200.
func (c *Client) call(ctx context.Context, method, path string, in any) ([]byte, error) {
	if err := c.mayAsk(); err != nil {
		return nil, err
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("mailcow: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.cfg.URL, "/")+"/api/v1/"+path, body)
	if err != nil {
		return nil, fmt.Errorf("mailcow: %w", err)
	}
	req.Header.Set("X-API-Key", c.cfg.Key)
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("mailcow: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, answerMost+1))
	if err != nil {
		return nil, fmt.Errorf("mailcow: read answer: %w", err)
	}
	tooLong := len(b) > answerMost
	b = bytes.TrimSpace(b)
	return b, c.judge(res.StatusCode, b, tooLong)
}

// mayAsk fails where mailcow has refused our key lately.
func (c *Client) mayAsk() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now().Before(c.locked) {
		return fmt.Errorf("%w; not asked again before %s, as it shuts out who comes with a wrong key, for SMTP too", ErrDenied, c.locked.UTC().Format("15:04 MST"))
	}
	return nil
}

func (c *Client) judge(status int, body []byte, tooLong bool) error {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusOK && len(body) == 0:
		// Without a key mailcow answers 200 with nothing.
		c.mu.Lock()
		c.locked = c.now().Add(lockedFor)
		c.mu.Unlock()
		return ErrDenied
	case status == http.StatusForbidden:
		return ErrReadOnly
	case status != http.StatusOK:
		return fmt.Errorf("mailcow: HTTP %d", status)
	case tooLong:
		return fmt.Errorf("mailcow: an answer of more than %d MB", answerMost>>20)
	}
	return nil
}

// result is one entry of the answer to a change. Its log, which may hold what
// was sent, is not read.
type result struct {
	Type string          `json:"type"`
	Msg  json.RawMessage `json:"msg"`
}

// text is the message's key with what it is about.
func (r result) text() string {
	var one string
	if json.Unmarshal(r.Msg, &one) == nil {
		return one
	}
	var many []any
	_ = json.Unmarshal(r.Msg, &many)
	words := make([]string, 0, len(many))
	for _, w := range many {
		words = append(words, fmt.Sprint(w))
	}
	return strings.Join(words, " ")
}

// post makes a change. mailcow answers 200 also where it refuses.
func (c *Client) post(ctx context.Context, path string, in any) error {
	b, err := c.call(ctx, http.MethodPost, path, in)
	switch {
	case errors.Is(err, ErrDenied), errors.Is(err, ErrReadOnly):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	var list []result
	if json.Unmarshal(b, &list) != nil {
		var one result
		if json.Unmarshal(b, &one) != nil || one.Type == "" {
			return fmt.Errorf("%w: the answer is not one of its API", ErrUnknown)
		}
		list = []result{one}
	}
	var done bool
	for _, r := range list {
		switch {
		case r.Type != "danger" && r.Type != "error":
			done = done || r.Type == "success"
		case strings.HasPrefix(r.text(), "domain_exists"):
			return ErrExists
		default:
			return fmt.Errorf("%w: %.200s", ErrInvalid, strings.ToValidUTF8(r.text(), "?"))
		}
	}
	if !done {
		return fmt.Errorf("%w: nothing says that it was done", ErrUnknown)
	}
	return nil
}
