package scanner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"mailward/policy"
)

// RspamdConfig says where rspamd is.
type RspamdConfig struct {
	URL      string // of its normal worker, http://127.0.0.1:11333
	Password string // "": it asks for none
}

// Rspamd asks rspamd what it thinks of a mail, over its HTTP API. What it says is
// one sign among others: it neither rejects nor releases a mail by itself.
type Rspamd struct {
	url, password string
	http          *http.Client
}

const (
	// rspamdTags is the score from which rspamd by default adds a header; it counts
	// as much as our own threshold for spam.
	rspamdTags = 6.0
	// rspamdReply bounds an answer, in bytes.
	rspamdReply = 1 << 20
	// rspamdSymbols is how many symbols are named, the heaviest first.
	rspamdSymbols = 8
)

// NewRspamd returns a client. It connects to nothing.
func NewRspamd(cfg RspamdConfig) *Rspamd {
	return &Rspamd{url: strings.TrimSuffix(cfg.URL, "/"), password: cfg.Password, http: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: slotsMost, MaxConnsPerHost: clamdPending, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Name implements [Engine].
func (*Rspamd) Name() string { return "rspamd" }

// rspamdAnswer is what we read of a reply to /checkv2.
type rspamdAnswer struct {
	Skipped bool     `json:"is_skipped"`
	Error   string   `json:"error"`
	Action  string   `json:"action"`
	Score   *float64 `json:"score"`
	Symbols map[string]struct {
		Name        string   `json:"name"`
		Score       float64  `json:"score"`
		Description string   `json:"description"`
		Options     []string `json:"options"`
	} `json:"symbols"`
}

// Scan implements [Engine].
func (r *Rspamd) Scan(ctx context.Context, job Job) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/checkv2", job.Spool.NewReader())
	if err != nil {
		return Answer{}, fmt.Errorf("ask rspamd: %w: %w", ErrUnavailable, err)
	}
	req.ContentLength = job.Spool.Size()
	env := job.Envelope
	set := func(name, value string) {
		// An address may have what a header must not.
		if value != "" && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			req.Header.Add(name, value)
		}
	}
	set("Queue-Id", job.MailID.String())
	set("From", env.From)
	set("Helo", env.Helo)
	if env.ClientIP.IsValid() {
		set("IP", env.ClientIP.String())
	}
	for _, to := range env.Recipients {
		set("Rcpt", to)
	}
	var a rspamdAnswer
	info, err := r.do(req, &a)
	if err != nil {
		return Answer{}, err
	}
	// What rspamd skips by its own settings, or rejects at first sight, is a verdict.
	if a.Error != "" || a.Score == nil {
		return Answer{}, fmt.Errorf("rspamd: %w: it gave no score", errNotScanned)
	}
	return Answer{Info: info, Findings: a.findings()}, nil
}

// findings is one sign with rspamd's score on our scale. A score below zero, which
// says that a mail is wanted, does not take from what others found.
func (a rspamdAnswer) findings() []policy.Finding {
	score := *a.Score * policy.DefaultThresholds().Spam / rspamdTags
	if score <= 0 {
		return nil
	}
	names := make([]string, 0, len(a.Symbols))
	for name, s := range a.Symbols {
		if s.Score > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(x, y string) int {
		return cmp.Or(cmp.Compare(a.Symbols[y].Score, a.Symbols[x].Score), strings.Compare(x, y))
	})
	list := make([]string, 0, rspamdSymbols)
	for _, n := range names[:min(len(names), rspamdSymbols)] {
		list = append(list, fmt.Sprintf("%s %.1f", clip(n, 64), a.Symbols[n].Score))
	}
	return []policy.Finding{{Engine: "rspamd", Name: "RSPAMD", Score: score,
		Reason: fmt.Sprintf("rspamd gives it %.1f points: %s", *a.Score, strings.Join(list, ", ")),
		Meta:   map[string]string{"score": fmt.Sprintf("%.2f", *a.Score), "action": clip(a.Action, 64), "symbols": strings.Join(list, ", ")}}}
}

// clip cuts what another program says to n bytes of valid UTF-8.
func clip(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "") }

// Check implements [Engine].
func (r *Rspamd) Check(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/ping", nil)
	if err != nil {
		return Info{}, fmt.Errorf("ask rspamd: %w: %w", ErrUnavailable, err)
	}
	return r.do(req, nil)
}

// do sends a request and reads the reply into into, where that is not nil.
func (r *Rspamd) do(req *http.Request, into *rspamdAnswer) (Info, error) {
	if r.password != "" {
		req.Header.Set("Password", r.password)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address
		}
		return Info{}, fmt.Errorf("ask rspamd: %w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, rspamdReply+1))
	switch {
	case err != nil:
		return Info{}, fmt.Errorf("read rspamd's answer: %w: %w", ErrUnavailable, err)
	case resp.StatusCode != http.StatusOK:
		return Info{}, fmt.Errorf("rspamd: %w: %w: status %d", ErrUnavailable, errNotScanned, resp.StatusCode)
	case len(body) > rspamdReply:
		return Info{}, fmt.Errorf("rspamd: %w: its answer is over %d bytes", errNotScanned, rspamdReply)
	}
	info := Info{Version: clip(resp.Header.Get("Server"), 64)}
	if into == nil {
		return info, nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return Info{}, fmt.Errorf("read rspamd's answer: %w: %w", errNotScanned, err)
	}
	return info, nil
}
