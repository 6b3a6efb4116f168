// Package cape is a client of the CAPE sandbox's web API, version 2.
//
// It stands beside a mail's path: CAPE takes minutes, so nobody waits for it in
// an SMTP session. Mail that wants its verdict is held, and the hold queue
// (package quarantine/sandbox) asks here. The client keeps no state and does
// nothing by itself; what it reads is bounded in size and time, since a report
// is made from what malware did.
//
// The API says most failures with status 200 and {"error": true}, writes
// "error" in three ways, and calls an analysis completed before there is a
// report: see [Client.State] and [Client.Report] for what counts.
package cape

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Errors that a caller can act on. Everything else, and [ErrUnavailable], is
// temporary.
var (
	// ErrUnavailable means that CAPE gave no usable answer: try again later.
	ErrUnavailable = errors.New("cape: unavailable")
	// ErrUnauthorized means that it answers, but does not take our token.
	ErrUnauthorized = errors.New("cape: not authorised")
	// ErrRefused means that it will never take this file.
	ErrRefused = errors.New("cape: file refused")
	// ErrDuplicate means that it has this file already: look for its tasks.
	ErrDuplicate = errors.New("cape: file known already")
	// ErrNotFound means that it does not know the task.
	ErrNotFound = errors.New("cape: no such task")
	// ErrNotReady means that the report is not there yet.
	ErrNotReady = errors.New("cape: report not ready")
	// ErrNoReport means that there will be none.
	ErrNoReport = errors.New("cape: no report")
)

// ThrottledError means that we ask too often. It is temporary.
type ThrottledError struct{ After time.Duration }

func (e *ThrottledError) Error() string { return fmt.Sprintf("cape: throttled for %s", e.After) }

// Unwrap makes it a kind of [ErrUnavailable].
func (e *ThrottledError) Unwrap() error { return ErrUnavailable }

// Config says where CAPE is.
type Config struct {
	URL    string // https://host[:port], with or without a path in front of /apiv2/
	Token  string // of CAPE's token authentication; empty: it has none
	CAFile string // certificates to believe; empty: the system's

	// CallTimeout bounds one call but the next two. Default: 30 s.
	CallTimeout time.Duration
	// SubmitTimeout bounds the upload of a file. Default: 3 minutes.
	SubmitTimeout time.Duration
	// ReportTimeout bounds the download of a report. Default: 5 minutes.
	ReportTimeout time.Duration
	// MaxReport is how much of a report is read, in bytes. Default: 512 MiB.
	MaxReport int64
	// RetryPause is before the second of three tries; the third waits twice as
	// long. Default: 500 ms.
	RetryPause time.Duration
}

// Bounds of an answer that is no report.
const (
	maxAnswer = 4 << 20
	tries     = 3
	// maxAfter is how long a single call waits when it is throttled; longer is
	// the caller's to plan.
	maxAfter = 2 * time.Second
)

// Client asks one CAPE.
type Client struct {
	cfg  Config
	base string
	http *http.Client
}

// New returns a client. It connects to nothing.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("cape: the address must be like https://cape.example.org")
	}
	for d, def := range map[*time.Duration]time.Duration{&cfg.CallTimeout: 30 * time.Second, &cfg.SubmitTimeout: 3 * time.Minute, &cfg.ReportTimeout: 5 * time.Minute, &cfg.RetryPause: 500 * time.Millisecond} {
		if *d <= 0 {
			*d = def
		}
	}
	if cfg.MaxReport <= 0 {
		cfg.MaxReport = 512 << 20
	}
	roots, err := rootsOf(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
	}
	path := strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/apiv2")
	return &Client{cfg: cfg, base: u.Scheme + "://" + u.Host + path + "/apiv2/", http: &http.Client{Transport: transport,
		// A redirect would take our token elsewhere, and turn a POST into a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cape: read certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("cape: %s holds no certificate", file)
	}
	return pool, nil
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// envelope is what every answer has around it. Error is false, true, or a list
// that is empty when all is well.
type envelope struct {
	Error      json.RawMessage `json:"error"`
	ErrorValue json.RawMessage `json:"error_value"`
	Errors     json.RawMessage `json:"errors"`
	Data       json.RawMessage `json:"data"`
	Detail     string          `json:"detail"`
}

func (e envelope) failed() bool {
	switch s := strings.TrimSpace(string(e.Error)); s {
	case "", "false", "null", "[]":
		return false
	default:
		return true
	}
}

// message is what went wrong, in CAPE's words, and bounded.
func (e envelope) message() string {
	var text string
	if json.Unmarshal(e.ErrorValue, &text) != nil {
		text = string(e.ErrorValue)
	}
	if len(e.Errors) > 2 {
		text += " " + string(e.Errors) // its values are texts or objects
	}
	if text == "" {
		text = e.Detail
	}
	return strings.ToValidUTF8(text[:min(len(text), 500)], "")
}

// get asks and decodes. What can be asked again is, with a growing pause.
func (c *Client) get(ctx context.Context, path string) (e envelope, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.CallTimeout)
	defer cancel()
	for try := 1; ; try++ {
		e, err = c.once(ctx, path)
		var slow *ThrottledError
		if err == nil || try == tries || !errors.Is(err, ErrUnavailable) || errors.As(err, &slow) && slow.After > maxAfter {
			return e, err
		}
		pause := c.cfg.RetryPause << (try - 1)
		if slow != nil {
			pause = max(pause, slow.After)
		}
		select {
		case <-ctx.Done():
			return e, err
		case <-time.After(pause):
		}
	}
}

func (c *Client) once(ctx context.Context, path string) (envelope, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return envelope{}, fmt.Errorf("cape: make request: %w", err)
	}
	return c.answer(req, path)
}

// answer sends a request and reads its envelope.
func (c *Client) answer(req *http.Request, what string) (e envelope, err error) {
	resp, err := c.do(req, what)
	if err != nil {
		return e, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return e, fmt.Errorf("cape %s: read answer: %w: %w", what, ErrUnavailable, err)
	}
	if len(b) > maxAnswer {
		return e, fmt.Errorf("cape %s: %w: the answer is over %d MiB", what, ErrUnavailable, maxAnswer>>20)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("cape %s: %w: the answer is no JSON object", what, ErrUnavailable)
	}
	if e.failed() {
		return e, fmt.Errorf("cape %s: %w", what, failure(e.message()))
	}
	return e, nil
}

// do sends a request and turns a status into an error. An HTML page comes with
// status 200 where we may not see something.
func (c *Client) do(req *http.Request, what string) (*http.Response, error) {
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Token "+c.cfg.Token)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error // its text has the address, which is in our configuration
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("cape %s: %w: %w", what, ErrUnavailable, err)
	}
	if err := statusError(resp); err != nil {
		io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		resp.Body.Close()
		return nil, fmt.Errorf("cape %s: %w", what, err)
	}
	return resp, nil
}

func statusError(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return ErrUnauthorized
	case code == http.StatusNotFound:
		return ErrNotFound
	case code == http.StatusTooManyRequests:
		return &ThrottledError{After: retryAfter(resp.Header.Get("Retry-After"))}
	case code == http.StatusRequestEntityTooLarge:
		return ErrRefused
	case code != http.StatusOK:
		return fmt.Errorf("%w: status %d", ErrUnavailable, code)
	case kind == "text/html":
		return fmt.Errorf("%w: a page in place of data", ErrUnavailable)
	}
	return nil
}

// retryAfter reads seconds, within reason.
func retryAfter(v string) time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil || n < 0 {
		return 15 * time.Second
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}

// failure is what CAPE's words mean. What it is not known to say is temporary:
// the deadline of the mail bounds how often it is tried.
func failure(text string) error {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(strings.ToLower(text), w) {
				return true
			}
		}
		return false
	}
	kind := ErrUnavailable
	switch {
	case has("duplicated file"):
		kind = ErrDuplicate
	case has("empty file", "maximum allowed size"):
		kind = ErrRefused
	case has("task does not exist", "task not found"):
		kind = ErrNotFound
	case has("still being analyzed", "reports directory does not exist", "no reports created"):
		kind = ErrNotReady
	case has("task failed", "tlp of red"):
		kind = ErrNoReport
	}
	return fmt.Errorf("%w: %s", kind, text)
}

// Server is what CAPE says of itself.
type Server struct {
	Version            string
	Machines, Free     int
	Pending, Running   int
	AuthenticationOnly bool // it answers, but not to us
}

// Server asks how CAPE is. With [ErrUnauthorized] it is there.
func (c *Client) Server(ctx context.Context) (Server, error) {
	e, err := c.get(ctx, "cuckoo/status/")
	if err != nil {
		return Server{AuthenticationOnly: errors.Is(err, ErrUnauthorized)}, err
	}
	var d struct {
		Version  string
		Machines struct{ Total, Available int }
		Tasks    struct{ Pending, Running int }
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return Server{}, fmt.Errorf("cape status: %w: %w", ErrUnavailable, err)
	}
	return Server{Version: clip(d.Version, 64), Machines: d.Machines.Total, Free: d.Machines.Available, Pending: d.Tasks.Pending, Running: d.Tasks.Running}, nil
}

// State is where a task is.
type State string

// The states of a task, as far as they matter to us.
const (
	Running State = "running" // waiting, running, or without its report
	Done    State = "done"    // the report should be there
	Failed  State = "failed"  // there will be none
)

// maxRecoveries bounds how often a task may have been started anew.
const maxRecoveries = 3

// State asks where a task is. A task that CAPE has started anew is followed.
func (c *Client) State(ctx context.Context, id int64) (State, error) {
	for range maxRecoveries {
		e, err := c.get(ctx, fmt.Sprintf("tasks/status/%d/", id))
		if err != nil {
			return "", err
		}
		var s string
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return "", fmt.Errorf("cape task %d: %w: its status is no text", id, ErrUnavailable)
		}
		switch {
		case s == "reported":
			return Done, nil
		case s == "recovered":
			if id, err = c.recovered(ctx, id); err != nil {
				return "", err
			}
			continue
		case strings.HasPrefix(s, "failed_") || s == "banned":
			return Failed, nil
		}
		return Running, nil // completed too: the machine is done, the report is not
	}
	return Failed, nil
}

// recovered finds the task that took another one's place.
func (c *Client) recovered(ctx context.Context, id int64) (int64, error) {
	e, err := c.get(ctx, fmt.Sprintf("tasks/view/%d/", id))
	if err != nil {
		return 0, err
	}
	var d struct{ Custom string }
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return 0, fmt.Errorf("cape task %d: %w: %w", id, ErrUnavailable, err)
	}
	_, n, _ := strings.Cut(d.Custom, "Recovery_")
	next, err := strconv.ParseInt(n, 10, 64)
	if err != nil || next <= 0 || next == id {
		return 0, fmt.Errorf("cape task %d: %w: it was recovered as nothing", id, ErrNoReport)
	}
	return next, nil
}

// maxTasks bounds the tasks of one file.
const maxTasks = 50

// Search lists the tasks that CAPE has for a file, the newest first.
func (c *Client) Search(ctx context.Context, sha256 string) ([]int64, error) {
	if len(sha256) != 64 || strings.Trim(sha256, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("cape: %q is no SHA-256", sha256)
	}
	e, err := c.get(ctx, "tasks/search/sha256/"+sha256+"/")
	if err != nil {
		return nil, err
	}
	var list []struct {
		ID     int64
		Status string
	}
	if err := json.Unmarshal(e.Data, &list); err != nil {
		return nil, fmt.Errorf("cape search: %w: %w", ErrUnavailable, err)
	}
	var ids []int64
	for _, t := range list {
		// One that failed tells nothing: the file is worth another try.
		if t.ID > 0 && len(ids) < maxTasks && !strings.HasPrefix(t.Status, "failed_") && t.Status != "banned" {
			ids = append(ids, t.ID)
		}
	}
	return ids, nil
}

func clip(s string, n int) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s[:min(len(s), n)], ""), "\x00", "")
}

// File is one file to be run.
type File struct {
	Name string // what its kind is guessed from; nothing of it is believed here
	Data []byte
}

// Submit gives a file to CAPE and returns its tasks: a container may become
// several. It is not tried again here: after an error the file may be there all
// the same, and [Client.Search] says so.
func (c *Client) Submit(ctx context.Context, f File, custom string) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.SubmitTimeout)
	defer cancel()
	body, kind, err := form(f, custom)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"tasks/create/file/", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cape: make request: %w", err)
	}
	req.Header.Set("Content-Type", kind)
	e, err := c.answer(req, "submit")
	if err != nil {
		return nil, err
	}
	var d struct {
		IDs []int64 `json:"task_ids"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return nil, fmt.Errorf("cape submit: %w: %w", ErrUnavailable, err)
	}
	if len(d.IDs) == 0 {
		return nil, fmt.Errorf("cape submit: %w", failure("no task was made. "+e.message()))
	}
	return d.IDs[:min(len(d.IDs), maxTasks)], nil
}
