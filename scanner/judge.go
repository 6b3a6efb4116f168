package scanner

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"mailward/policy"
	"mailward/scanner/content"
)

// Question is what a judge hears of a mail.
type Question struct {
	MailID       uuid.UUID
	Workspace    uuid.UUID
	Direction    policy.Direction
	EnvelopeFrom string
	Client       netip.Addr // zero: not known
	SHA256       string     // of the mail as received; empty: not known
	Recipients   []policy.Recipient
	Sender       Sender
	History      History
	Content      *content.Content
	Findings     []policy.Finding // of the engines
	Parts        []policy.Part
	Proof        bool // it is a test mail of ours, see gateway.Server.Prove
	Trial        bool // nobody sends it: it is looked at, and must not count anywhere
}

// Sender is what the check of the sender said: pass, fail, none, temperror, ...;
// all empty where nobody asked, as for a client of ours.
type Sender struct {
	SPF, DKIM, DMARC string
	Domain           string // the author's
}

// History is what the workspace knew of a mail's sender and links before the
// mail came. The zero value: nothing is known, and nothing follows from that.
type History struct {
	// Ripe says that the workspace has been watched for so long that it means
	// something not to have been seen.
	Ripe     bool
	Proven   bool     // the sender is: what is known is known of the same sender
	Sender   Past     // its address
	Domain   Past     // the domain of it
	Written  bool     // people of the workspace have written to it
	NewLinks []string // domains that it links to and nobody did before today
}

// Past is what came before.
type Past struct {
	Mails, Bad int64     // bad ones were spam or worse
	Since      time.Time // of the first one; zero: there was none
}

// Judge is an engine that judges what a mail says, by what the sidecar has read
// in it and by who sent it. It opens no bytes of the mail itself.
type Judge interface {
	Name() string
	// Judge looks at one mail. An error means that there is no verdict.
	Judge(ctx context.Context, q Question) ([]policy.Finding, Info, error)
}

// Redactor is a judge that knows what must not stand in the record of a mail.
// It is asked last, and masks in the report what any engine has said.
type Redactor interface {
	Redact(q Question, rep *policy.Report)
}

// judgeTimeout bounds one judge. They compute, and look up a few rows.
const judgeTimeout = 5 * time.Second

// WithJudges returns the same scanner with more judges.
func (s *Scanner) WithJudges(judges ...Judge) *Scanner {
	with := *s
	with.judges = append(slices.Clone(s.judges), judges...)
	return &with
}

// Judge asks all judges and adds their answers to the report. Without content
// there is nothing to judge: the report says already that the sidecar gave no
// answer. A judge without an answer is on record like any engine.
func (s *Scanner) Judge(ctx context.Context, q Question, rep *policy.Report) {
	if q.Content == nil {
		return
	}
	q.Findings, q.Parts = rep.Findings, rep.Parts
	for _, j := range s.judges {
		begin := time.Now()
		found, info, err := judge(ctx, j, q)
		a := policy.EngineAnswer{Engine: j.Name(), Version: info.Version, Database: info.Database, DatabaseTime: info.DatabaseTime, Answered: err == nil, DurationMS: time.Since(begin).Milliseconds()}
		if err != nil {
			a.Error = shortError(err)
			s.log.Warn("engine gave no answer", "mail", q.MailID, "engine", a.Engine, "error", err)
		}
		rep.Engines = append(rep.Engines, a)
		rep.Findings = append(rep.Findings, found...)
	}
	for _, j := range s.judges {
		if r, ok := j.(Redactor); ok {
			s.redact(r, j.Name(), q, rep)
		}
	}
}

// redact asks one. Where it breaks down nothing of the mail may stand in the
// record, and the mail has to come again.
func (s *Scanner) redact(r Redactor, name string, q Question, rep *policy.Report) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("record not masked", "mail", q.MailID, "engine", name, "panic", p)
			*rep = policy.Report{Engines: append(rep.Engines, policy.EngineAnswer{Engine: name, Error: "its findings could not be masked"})}
		}
	}()
	r.Redact(q, rep)
}

// judge asks one. What it reads is a stranger's, so a panic of its costs one
// mail a 451 and not the process.
func judge(ctx context.Context, j Judge, q Question) (found []policy.Finding, info Info, err error) {
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			found, err = nil, fmt.Errorf("%s: %w: panic: %v", j.Name(), ErrUnavailable, p)
		}
	}()
	return j.Judge(ctx, q)
}
