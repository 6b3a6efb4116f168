package scanner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"mailward/policy"
	"mailward/scanner/sidecar"
)

// SidecarConfig says where the scanner sidecar is.
type SidecarConfig struct{ Socket string }

// Sidecar asks the process that opens hostile bytes for us.
type Sidecar struct {
	socket string

	slow chan SlowRule

	mu        sync.Mutex // guards all below
	deaths    map[string]int
	slowMails map[string]slowMail
	rules     string // version that was seen last
}

// maxDeaths bounds what is remembered of mails that killed a worker.
const maxDeaths = 1024

// View is the material for looking at a held mail.
type View = sidecar.View

// NewSidecar returns a client. It connects to nothing.
func NewSidecar(cfg SidecarConfig) *Sidecar {
	return &Sidecar{socket: cfg.Socket, slow: make(chan SlowRule, 64), deaths: map[string]int{}, slowMails: map[string]slowMail{}}
}

// Name implements [Engine].
func (s *Sidecar) Name() string { return "yara" }

func (*Sidecar) cuts() {}

// Scan implements [Engine]. A worker that dies on a mail is no verdict; when a
// second one dies on the same bytes, the mail itself is the cause, and it is
// unscannable. So is a mail on which a rule took too long twice, as long as the
// rules stay the same.
func (s *Sidecar) Scan(ctx context.Context, job Job) (Answer, error) {
	sum := job.Spool.SHA256()
	hash := hex.EncodeToString(sum[:])
	if s.died(hash, 0) >= 2 {
		return Answer{Findings: []policy.Finding{{Engine: s.Name(), Name: "Mailward.Scanner.Crash", Class: policy.Unscannable, Score: 5,
			Reason: "the scanner broke down on this mail twice"}}}, nil
	}
	if why, ok := s.tooSlow(hash); ok {
		return Answer{Findings: []policy.Finding{{Engine: s.Name(), Name: "Mailward.Scanner.SlowRule", Class: policy.Unscannable, Score: 5,
			Reason: why + " on it twice"}}}, nil
	}
	resp, err := s.do(ctx, sidecar.Request{Op: sidecar.OpScan}, job.Spool.File())
	if errors.Is(err, errWorkerDied) {
		s.died(hash, 1)
	}
	if resp.Slow != nil {
		s.noteSlow(hash, resp.RulesVersion, resp.Slow)
	}
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Info: infoOf(resp), Findings: resp.Findings, Parts: resp.Parts, Limits: resp.Limits, Cuts: resp.Cuts, Content: resp.Content,
		Header: HeaderSummary{Subject: resp.Header.Subject, From: resp.Header.From, MessageID: resp.Header.MessageID, Date: resp.Header.Date}}
	for _, x := range resp.Extra {
		a.Extra = append(a.Extra, ExtraPart{Path: x.Path, Name: x.Name, Data: x.Data})
	}
	return a, nil
}

func infoOf(r sidecar.Response) Info {
	return Info{Version: r.Version, Database: r.RulesVersion, DatabaseTime: r.RulesTime, Rules: r.Rules, Managed: r.Managed, Detail: fmt.Sprintf("%d rules", r.Rules)}
}

// died adds n to what is known of a mail's victims, and says how many there are.
func (s *Sidecar) died(hash string, n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > 0 {
		if len(s.deaths) >= maxDeaths {
			clear(s.deaths)
		}
		s.deaths[hash] += n
	}
	return s.deaths[hash]
}

// View takes a held mail apart for looking at it.
func (s *Sidecar) View(ctx context.Context, f *os.File) (View, error) {
	resp, err := s.do(ctx, sidecar.Request{Op: sidecar.OpView}, f)
	if err != nil {
		return View{}, err
	}
	if resp.View == nil {
		return View{}, fmt.Errorf("%w: no view in its answer", ErrUnavailable)
	}
	return *resp.View, nil
}

// ErrNoPart means that the mail has no part with the hash that was asked for.
var ErrNoPart = errors.New("scanner: no such part")

// Part hands out the bytes of one decoded part of a mail, named by its SHA-256
// in hex. It may have up to [sidecar.MaxPart] bytes.
func (s *Sidecar) Part(ctx context.Context, f *os.File, sum string) ([]byte, error) {
	var b []byte
	resp, err := s.exchange(ctx, sidecar.Request{Op: sidecar.OpPart, SHA256: sum}, func(c net.Conn, r sidecar.Response) (err error) {
		if r.Part != nil && r.Part.Found {
			b, err = sidecar.ReadPart(c)
		}
		return err
	}, f)
	if err != nil {
		return nil, err
	}
	if resp.Part == nil || !resp.Part.Found {
		return nil, ErrNoPart
	}
	// What comes from there was made of hostile bytes, perhaps by a worker that
	// was taken over: it must be what was asked for.
	if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != sum {
		return nil, fmt.Errorf("scanner: %w: the part is not what was asked for", ErrUnavailable)
	}
	return b, nil
}

// Check implements [Engine].
func (s *Sidecar) Check(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := s.do(ctx, sidecar.Request{Op: sidecar.OpPing})
	if err != nil {
		return Info{}, err
	}
	return infoOf(resp), nil
}

// errWorkerDied means that the connection broke after the request was taken.
var errWorkerDied = errors.New("scanner: the worker broke off")

// do sends one request on a connection of its own.
func (s *Sidecar) do(ctx context.Context, req sidecar.Request, files ...*os.File) (sidecar.Response, error) {
	return s.exchange(ctx, req, func(net.Conn, sidecar.Response) error { return nil }, files...)
}

// exchange is do for an answer that has more to it, which rest reads.
func (s *Sidecar) exchange(ctx context.Context, req sidecar.Request, rest func(net.Conn, sidecar.Response) error, files ...*os.File) (sidecar.Response, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", s.socket)
	if err != nil {
		return sidecar.Response{}, fmt.Errorf("connect to scanner: %w: %w", ErrUnavailable, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	resp, err := sidecar.Exchange(conn.(*net.UnixConn), req, files...)
	if err == nil && resp.Error == "" {
		err = rest(conn, resp)
	}
	if ctx.Err() != nil {
		return resp, fmt.Errorf("scanner: %w: %w", ErrUnavailable, ctx.Err())
	}
	if err != nil {
		return resp, fmt.Errorf("scanner: %w: %w: %w", ErrUnavailable, errWorkerDied, err)
	}
	s.saw(resp.RulesVersion)
	if resp.Slow != nil {
		return resp, fmt.Errorf("scanner: %w: %w: %w", ErrUnavailable, errNotScanned, resp.Slow)
	}
	if resp.Error != "" {
		return resp, fmt.Errorf("scanner: %w: %w: %s", ErrUnavailable, errNotScanned, resp.Error)
	}
	return resp, nil
}
