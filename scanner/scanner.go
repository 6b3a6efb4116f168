// Package scanner finds out what is in a mail: it asks every engine and puts
// their answers together.
//
// On a mail's path it comes right after the spool, beside the check of the
// sender. The sidecar takes the mail apart under another user and matches YARA
// rules; clamd looks for signatures at the same time. An engine that does not
// answer is a fact in the report, never a clean verdict: what to do about it is
// the policy's to say.
package scanner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"mailward/internal/message"
	"mailward/policy"
	"mailward/scanner/content"
)

// ErrUnavailable means that an engine gave no answer, so nothing is known about
// the content. It never means that the content is clean.
var ErrUnavailable = errors.New("scanner: engine unavailable")

// Job is one mail to be looked into.
type Job struct {
	MailID   uuid.UUID
	Spool    *message.Spool
	Envelope message.Envelope // for engines that judge the sender too
	// Cuts are parts that an engine may scan decoded, in place of their pieces of
	// the mail. None: it scans the mail as it is.
	Cuts []Cut
}

// Info is what an engine says of itself.
type Info struct {
	Version      string
	Database     string    // version of signatures or rules
	DatabaseTime time.Time // zero: not known
	Detail       string
	Rules        int    // number of rules, for YARA
	Reach        *Reach // of ClamAV, as far as it is known
	Managed      string // fingerprint of the managed rule sets among them
}

// Answer is what one engine found.
type Answer struct {
	Info     Info
	Findings []policy.Finding
	Parts    []policy.Part
	Limits   []string // limits that were hit
	Header   HeaderSummary
	Cuts     []Cut // where the mail can be cut, see Job
	Cached   bool  // some of it was known as clean
	// Content is what a recipient would read; nil: the engine does not say.
	Content *content.Content
	// Extra are decoded parts that other engines may not see by themselves.
	Extra []ExtraPart
}

// HeaderSummary is the decoded header for lists.
type HeaderSummary struct{ Subject, From, MessageID, Date string }

// ExtraPart is a part that the sidecar had to decode in a way of its own.
type ExtraPart struct {
	Path, Name string
	Data       []byte
}

// Engine looks into mails.
type Engine interface {
	Name() string
	// Scan looks into one mail. An error means that there is no verdict.
	Scan(ctx context.Context, job Job) (Answer, error)
	// Check says whether the engine works, for Health.
	Check(ctx context.Context) (Info, error)
}

// extraScanner is an engine that can look into a decoded part by itself.
type extraScanner interface {
	ScanBytes(ctx context.Context, part ExtraPart) ([]policy.Finding, error)
}

// cutter is an engine that says where a mail can be cut.
type cutter interface{ cuts() }

// Config holds the scanner's limits.
type Config struct {
	// EngineTimeout bounds one engine's work on one mail. Default: 40 s.
	EngineTimeout time.Duration
	// Slots is how many mails are scanned at a time, those left out that take more
	// than two seconds. Default: one more than there are processors, 3 to 8.
	Slots int
	// SlotWait is how long a mail waits for a slot. Default: 20 s.
	SlotWait time.Duration
	// Split gives big parts to clamd decoded and on their own, so that it reads each
	// byte once, in place of the whole mail.
	Split bool
}

// DefaultConfig returns the settings used where nothing else is said.
func DefaultConfig() Config {
	return Config{EngineTimeout: 40 * time.Second, Slots: defaultSlots(), SlotWait: 20 * time.Second}
}

// Scanner asks all engines about each mail, and then all judges.
type Scanner struct {
	cfg     Config
	log     *slog.Logger
	engines []Engine
	judges  []Judge
	slots   *slots
}

// New returns a Scanner. Without engines it scans nothing, and finds nothing:
// that is for measuring everything else, and whoever sets it up has to say so
// loudly. It connects to nothing; an engine that is down shows
// in the first report and on the health page.
func New(cfg Config, log *slog.Logger, engines ...Engine) (*Scanner, error) {
	if cfg.EngineTimeout <= 0 || cfg.Slots < 1 || cfg.SlotWait <= 0 {
		return nil, fmt.Errorf("scanner: limits %+v do not work", cfg)
	}
	return &Scanner{cfg: cfg, log: log, engines: engines, slots: newSlots(cfg.Slots, slotPatience)}, nil
}

// Scan asks all engines at the same time and waits for each up to its limit.
// It cannot fail: an engine without an answer says so in the report. The content
// is for [Scanner.Judge]; it is nil where no engine could say.
func (s *Scanner) Scan(ctx context.Context, job Job) (policy.Report, *content.Content) {
	wait, cancel := context.WithTimeout(ctx, s.cfg.SlotWait)
	defer cancel()
	release, ok := s.slots.take(wait)
	if !ok {
		return s.busy(), nil
	}
	defer release()
	if len(s.engines) == 0 {
		return unscanned(job), nil
	}
	results := make([]engineResult, len(s.engines))
	first := -1
	if s.cfg.Split && job.Spool.Size() >= splitMin {
		// Who says where the mail can be cut is asked before the others.
		if first = slices.IndexFunc(s.engines, func(e Engine) bool { _, ok := e.(cutter); return ok }); first >= 0 {
			results[first] = s.ask(ctx, s.engines[first], job)
			job.Cuts = results[first].answer.Cuts
		}
	}
	var wg sync.WaitGroup
	for i, e := range s.engines {
		if i != first {
			wg.Go(func() { results[i] = s.ask(ctx, e, job) })
		}
	}
	wg.Wait()
	s.scanExtra(ctx, results)
	s.checkReach(ctx, results)
	var c *content.Content
	for _, r := range results {
		if r.answer.Content != nil && r.err == nil {
			c = r.answer.Content
		}
	}
	return s.merge(job, results), c
}

type engineResult struct {
	answer Answer
	err    error
	took   time.Duration
}

func (s *Scanner) ask(ctx context.Context, e Engine, job Job) (r engineResult) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.EngineTimeout)
	defer cancel()
	begin := time.Now()
	defer func() { r.took = time.Since(begin) }()
	r.answer, r.err = e.Scan(ctx, job)
	return r
}

// busy is the report of a mail that found no free slot in time.
func (s *Scanner) busy() policy.Report {
	var r policy.Report
	for _, e := range s.engines {
		r.Engines = append(r.Engines, policy.EngineAnswer{Engine: e.Name(), Error: "all scan slots are taken"})
	}
	return r
}

// scanExtra shows the parts that only the sidecar could decode to the engines
// that read mail in their own way.
func (s *Scanner) scanExtra(ctx context.Context, results []engineResult) {
	for i, e := range s.engines {
		x, ok := e.(extraScanner)
		if !ok || results[i].err != nil {
			continue
		}
		for _, r := range results {
			for _, part := range r.answer.Extra {
				found, err := x.ScanBytes(ctx, part)
				if err != nil {
					results[i].err = fmt.Errorf("part %s: %w", part.Path, err)
					return
				}
				results[i].answer.Findings = append(results[i].answer.Findings, found...)
			}
		}
	}
}

// reacher is an engine that looks into files up to a size only.
type reacher interface {
	beyond(ctx context.Context, parts []policy.Part) []policy.Finding
}

// checkReach looks for parts that an engine says nothing about, by what the
// sidecar has found in the mail.
func (s *Scanner) checkReach(ctx context.Context, results []engineResult) {
	for i, e := range s.engines {
		x, ok := e.(reacher)
		if !ok || results[i].err != nil || len(results[i].answer.Findings) > 0 {
			continue
		}
		for _, r := range results {
			if len(r.answer.Parts) > 0 {
				results[i].answer.Findings = append(results[i].answer.Findings, x.beyond(ctx, r.answer.Parts)...)
			}
		}
	}
}

func (s *Scanner) merge(job Job, results []engineResult) policy.Report {
	var rep policy.Report
	for i, r := range results {
		a := policy.EngineAnswer{Engine: s.engines[i].Name(), Version: r.answer.Info.Version, Database: r.answer.Info.Database,
			DatabaseTime: r.answer.Info.DatabaseTime, Answered: r.err == nil, Cached: r.answer.Cached && r.err == nil, DurationMS: r.took.Milliseconds()}
		if r.err != nil {
			a.Error = shortError(r.err)
			s.log.Warn("engine gave no answer", "mail", job.MailID, "engine", a.Engine, "error", r.err)
		}
		rep.Engines = append(rep.Engines, a)
		rep.Findings = append(rep.Findings, r.answer.Findings...)
		rep.Parts = append(rep.Parts, r.answer.Parts...)
		rep.Limits = append(rep.Limits, r.answer.Limits...)
		if h := r.answer.Header; h != (HeaderSummary{}) {
			rep.Subject, rep.HeaderFrom, rep.MessageID, rep.Date = h.Subject, h.From, h.MessageID, h.Date
		}
	}
	return rep
}

// shortError is what the record keeps of a failure: enough to know what
// happened, without paths and addresses of ours.
func shortError(err error) string {
	var slow *SlowRule
	switch {
	case errors.As(err, &slow):
		return slow.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, errNotScanned):
		return "did not scan all of it"
	default:
		return "not reachable"
	}
}

// errNotScanned means that an engine answered, but not with a verdict.
var errNotScanned = errors.New("scanner: not scanned")
