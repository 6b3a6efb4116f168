package scanner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/baruwa-enterprise/clamd"

	"mailward/policy"
)

// ClamdConfig says where clamd is.
type ClamdConfig struct {
	Address string // unix:/path or host:port
	// Database is the folder of its signatures; with it clean parts are remembered.
	// "": it is not known.
	Database string
	Timeout  time.Duration // of one command; default 45 s
	// MaxFile is its MaxFileSize in bytes, where we have written its configuration
	// and it tells when it stops at a limit. 0: that is found out, see [Clamd.Reach].
	MaxFile int64
}

// Clamd asks a ClamAV daemon. Its library ignores contexts once it has dialled,
// so each command runs beside the caller, who leaves at the end of his time.
type Clamd struct {
	network, addr string
	timeout       time.Duration
	maxFile       int64
	known         *verdicts
	// pending bounds the commands that a hanging clamd has not answered yet.
	pending chan struct{}

	proving chan struct{} // filled by who finds out the reach

	mu     sync.Mutex // guards all below
	reach  Reach
	info   Info
	infoAt time.Time
	asking bool
}

const (
	clamdPending = 64
	// infoAge is how long a version is believed. Signatures change a few times a day.
	infoAge = 30 * time.Second
)

// NewClamd returns a client. It connects to nothing.
func NewClamd(cfg ClamdConfig) *Clamd {
	c := &Clamd{network: "tcp", addr: cfg.Address, timeout: cfg.Timeout, maxFile: cfg.MaxFile, proving: make(chan struct{}, 1), known: newVerdicts(cfg.Database, time.Now), pending: make(chan struct{}, clamdPending)}
	if p, ok := strings.CutPrefix(cfg.Address, "unix:"); ok {
		c.network, c.addr = "unix", p
	}
	if c.timeout == 0 {
		c.timeout = 45 * time.Second
	}
	return c
}

// Name implements [Engine].
func (c *Clamd) Name() string { return "clamav" }

// call runs one command of the library and waits for it, at most until ctx ends.
// It closes what the command uses when that has come to its end.
func call[T any](ctx context.Context, c *Clamd, what string, uses io.Closer, fn func(*clamd.Client) (T, error)) (T, error) {
	var zero T
	if uses == nil {
		uses = io.NopCloser(nil)
	}
	select {
	case c.pending <- struct{}{}:
	default:
		uses.Close()
		return zero, fmt.Errorf("clamd %s: %w: %d commands without an answer", what, ErrUnavailable, clamdPending)
	}
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { uses.Close(); <-c.pending }()
		client, err := clamd.NewClient(c.network, c.addr)
		if err != nil {
			done <- result{zero, err}
			return
		}
		client.SetConnTimeout(5 * time.Second)
		client.SetCmdTimeout(c.timeout)
		v, err := fn(client)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		var netErr net.Error
		switch {
		case r.err == nil:
			return r.v, nil
		case errors.As(r.err, &netErr):
			return r.v, fmt.Errorf("clamd %s: %w: %w", what, ErrUnavailable, r.err)
		default:
			// It answered, but with an error text, or the socket is not there.
			return r.v, fmt.Errorf("clamd %s: %w: %w", what, errNotScanned, r.err)
		}
	case <-ctx.Done():
		return zero, fmt.Errorf("clamd %s: %w: %w", what, ErrUnavailable, ctx.Err())
	}
}

// Scan implements [Engine]. Only a plain OK counts as clean. A mail that can be
// cut is given to clamd in pieces; where that does not work out, as it is.
func (c *Clamd) Scan(ctx context.Context, job Job) (Answer, error) {
	info := c.version(ctx)
	if len(job.Cuts) > 0 {
		pieces, err := split(ctx, job.Spool, job.Cuts, c.known.dir != "")
		if err == nil {
			defer closeAll(pieces)
			a, err := c.scanPieces(ctx, pieces)
			a.Info = info
			return a, err
		}
		if !errors.Is(err, errSplit) {
			return Answer{}, fmt.Errorf("split mail for clamd: %w: %w", ErrUnavailable, err)
		}
	}
	found, err := c.scanFile(ctx, job.Spool.File())
	return Answer{Info: info, Findings: found}, err
}

// splitMode names the way of scanning in what is remembered.
const splitMode = "part"

// scanPieces scans the skeleton and the parts, one after the other: several
// mails at a time keep clamd busy. Any piece without a verdict leaves the mail
// without one, unless another piece was a hit.
func (c *Clamd) scanPieces(ctx context.Context, pieces []piece) (a Answer, err error) {
	for _, p := range pieces {
		part := p.Path != ""
		var key [32]byte
		known := false
		if part {
			if key, known = c.known.key(p.sum, splitMode); known && c.known.clean(key) {
				a.Cached = true
				continue
			}
		}
		found, serr := c.scanFile(ctx, p.file)
		for _, f := range found {
			f.Part, f.PartName = p.Path, p.Name
			a.Findings = append(a.Findings, f)
		}
		if serr != nil {
			err = errors.Join(err, serr)
		} else if known && len(found) == 0 {
			c.known.remember(key, p.sum, splitMode)
		}
	}
	if len(a.Findings) > 0 {
		return a, nil
	}
	return a, err
}

// scanFile scans one file from its start. An OK for more than clamd looks into
// is no verdict.
func (c *Clamd) scanFile(ctx context.Context, file *os.File) ([]policy.Finding, error) {
	found, err := c.scanOpen(ctx, file)
	if err != nil || len(found) > 0 {
		return found, err
	}
	st, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("size of what clamd scanned: %w: %w", ErrUnavailable, err)
	}
	return c.beyond(ctx, []policy.Part{{Size: st.Size()}}), nil
}

// scanOpen scans one file from its start.
func (c *Clamd) scanOpen(ctx context.Context, file *os.File) ([]policy.Finding, error) {
	// The command may outlive the file's owner, when clamd hangs and nobody waits
	// any more: it gets a descriptor of its own.
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("open mail for clamd: %w: %w", ErrUnavailable, err)
	}
	return verdict(call(ctx, c, "scan", f, func(cl *clamd.Client) ([]*clamd.Response, error) {
		if c.network == "unix" {
			return cl.Fildes(context.WithoutCancel(ctx), fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		}
		return cl.ScanReader(context.WithoutCancel(ctx), f)
	}))
}

// ScanBytes looks into a decoded part.
func (c *Clamd) ScanBytes(ctx context.Context, part ExtraPart) ([]policy.Finding, error) {
	responses, err := call(ctx, c, "scan part", nil, func(cl *clamd.Client) ([]*clamd.Response, error) {
		return cl.ScanReader(ctx, bytes.NewReader(part.Data))
	})
	found, err := verdict(responses, err)
	for i := range found {
		found[i].Part, found[i].PartName = part.Path, part.Name
	}
	return found, err
}

// verdict reads clamd's lines. A hit counts even when an error follows it.
func verdict(responses []*clamd.Response, err error) ([]policy.Finding, error) {
	var found []policy.Finding
	ok := false
	for _, r := range responses {
		switch r.Status {
		case "FOUND":
			found = append(found, classify(r.Signature))
		case "OK":
			ok = true
		default:
			err = errors.Join(err, fmt.Errorf("%w: clamd says %q", errNotScanned, r.Raw))
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("clamd scan: %w: it gave no verdict", errNotScanned)
	}
	return nil, nil
}

// classify says what a signature's name means. Heuristics are clamd's opinions,
// not malware; each kind has a class of its own.
func classify(name string) policy.Finding {
	f := policy.Finding{Engine: "clamav", Name: name, Class: policy.Malware, Score: 15, Reason: "ClamAV found " + name}
	for _, m := range []struct {
		prefix string
		class  policy.Class
		score  float64
		reason string
	}{
		{"Heuristics.Limits.", policy.Unscannable, 5, "ClamAV could not scan all of it"},
		{"Heuristics.Encrypted.", policy.Unscannable, 5, "it has an encrypted archive or document that cannot be scanned"},
		{"Heuristics.Phishing.", policy.Phishing, 8, "ClamAV takes it for phishing"},
		{"Heuristics.Safebrowsing.", policy.Phishing, 8, "it links to a page that is known as dangerous"},
		{"Heuristics.Structured.", policy.DLP, 5, "it holds card or social security numbers"},
		{"Heuristics.OLE2.ContainsMacros", policy.Suspicious, 5, "a document in it has macros"},
		{"Heuristics.Broken.", policy.Broken, 2, "a file in it is malformed"},
		{"Heuristics.", policy.Suspicious, 5, "ClamAV takes it for suspicious"},
		{"PUA.", policy.Suspicious, 4, "it holds a potentially unwanted application"},
	} {
		if strings.HasPrefix(name, m.prefix) {
			f.Class, f.Score, f.Reason = m.class, m.score, m.reason+" ("+name+")"
			break
		}
	}
	return f
}

// version is what clamd last said of itself. It is asked in the background, so
// that no mail waits for it.
func (c *Clamd) version(ctx context.Context) Info {
	c.mu.Lock()
	info, known, fresh := c.info, !c.infoAt.IsZero(), time.Since(c.infoAt) < infoAge
	start := !fresh && !c.asking
	c.asking = c.asking || start
	c.mu.Unlock()
	switch {
	case start && known:
		go c.Check(context.WithoutCancel(ctx))
	case start:
		info, _ = c.Check(ctx)
	}
	return info
}

// Check implements [Engine]: PING alone proves only that somebody listens, so
// the version is asked for, which the engine has to know.
func (c *Clamd) Check(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v, err := call(ctx, c, "VERSION", nil, func(cl *clamd.Client) (string, error) { return cl.Version(ctx) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = false
	if err != nil {
		return Info{}, err
	}
	c.info, c.infoAt = parseVersion(v), time.Now()
	if stale := time.Since(c.reach.At) > reachAge; stale && c.maxFile == 0 && len(c.proving) == 0 {
		go c.Reach(context.WithoutCancel(ctx))
	}
	if r := c.reach; !r.At.IsZero() {
		c.info.Reach = &r
	}
	return c.info, nil
}

// parseVersion reads `ClamAV 1.4.6/27800/Sun Oct  5 07:34:21 2025`, or just
// `ClamAV 1.4.6` where the signatures have no version.
func parseVersion(v string) Info {
	parts := strings.SplitN(strings.TrimSpace(v), "/", 3)
	info := Info{Version: parts[0], Detail: v}
	if len(parts) > 1 {
		info.Database = parts[1]
	}
	if len(parts) > 2 {
		if t, err := time.Parse("Mon Jan _2 15:04:05 2006", parts[2]); err == nil {
			info.DatabaseTime = t
		}
	}
	return info
}
