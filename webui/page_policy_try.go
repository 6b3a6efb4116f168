package webui

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/gateway/facts"
	"mailward/gateway/ledger"
	"mailward/gateway/whatif"
	"mailward/internal/message"
	"mailward/policy"
	"mailward/scanner"
)

// tryPath is where a policy is tried. It takes larger forms than the others.
const tryPath = "/policies/try"

// trials is what a policy is tried with.
type trials interface {
	// Decisions reads what was decided.
	Decisions(ctx context.Context, workspaces []uuid.UUID, from time.Time, cursor uuid.UUID, limit int) ([]ledger.Row, error)
	// Scan looks into a mail that somebody has uploaded. It is neither kept nor sent.
	Scan(ctx context.Context, raw []byte, q scanner.Question) (policy.Input, error)
}

// errNoScanner means that this process cannot look into mail.
var errNoScanner = errors.New("webui: no scanner is set up here")

// scanTime bounds the look into an uploaded mail.
const scanTime = time.Minute

// realTrials is the ledger and the scanner of this process.
type realTrials struct {
	*ledger.Ledger
	scanner *scanner.Scanner
	spooler *message.Spooler
	slots   chan struct{}
}

// scansAtOnce bounds how many uploaded mails are looked into at a time.
const scansAtOnce = 2

func newTrials(d Deps) trials {
	return realTrials{d.Ledger, d.Scanner, d.Spooler, make(chan struct{}, scansAtOnce)}
}

func (t realTrials) Scan(ctx context.Context, raw []byte, q scanner.Question) (policy.Input, error) {
	if t.scanner == nil || t.spooler == nil {
		return policy.Input{}, errNoScanner
	}
	ctx, cancel := context.WithTimeout(ctx, scanTime)
	defer cancel()
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return policy.Input{}, fmt.Errorf("wait for a slot to scan an uploaded mail: %w", ctx.Err())
	}
	if bytes.Count(raw, []byte("\n")) != bytes.Count(raw, []byte("\r\n")) {
		raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	}
	spool, err := t.spooler.FromBytes(raw)
	if err != nil {
		return policy.Input{}, fmt.Errorf("read uploaded mail: %w", err)
	}
	defer spool.Close()
	if q.MailID, err = uuid.NewV7(); err != nil {
		return policy.Input{}, err
	}
	report, said := t.scanner.Scan(ctx, scanner.Job{MailID: q.MailID, Spool: spool})
	sum := spool.SHA256()
	q.Content, q.SHA256, q.Trial = said, hex.EncodeToString(sum[:]), true
	t.scanner.Judge(ctx, q, &report)
	return policy.Input{Report: report, Mail: policy.Mail{EnvelopeFrom: q.EnvelopeFrom, From: facts.Authors(report.HeaderFrom), LinkDomains: facts.LinkDomains(said)}}, nil
}

// tryView is what a changed policy would do.
type tryView struct {
	Form   policyForm
	Hidden [][2]string // the form, to be sent again
	What   string      // 7, 30, mail or file
	Mail   string
	Wrong  string
	Result *whatif.Result
	Copies []whatif.Copy
	// Findings are those of an uploaded mail.
	Findings []policy.Finding
	Silent   []string // engines without an answer
}

// so is the result so far, for the form that goes on with it.
func (v tryView) so() string {
	b, err := json.Marshal(v.Result)
	if err != nil {
		return ""
	}
	return string(b)
}

func (v tryView) goesOn() bool { return v.Result != nil && v.Result.Next != uuid.Nil }

// postPolicyTry decides mail again, by the policy of the form. Nothing is saved.
func (s *pages) postPolicyTry(c echo.Context) error {
	f, err := s.policyInput(c)
	if err != nil {
		return s.failure(c, err)
	}
	params, err := c.FormParams()
	if err != nil {
		return s.failure(c, errBadInput)
	}
	v := tryView{Form: f, Hidden: hiddenFields(params), What: c.FormValue("try.what"), Wrong: f.Wrong, Mail: strings.TrimSpace(c.FormValue("try.mail"))}
	p := s.frame(c, "policies")
	if v.Wrong == "" {
		if err := s.try(c, p, &v); err != nil {
			return s.failure(c, err)
		}
	}
	status := http.StatusOK
	if v.Wrong != "" {
		status = http.StatusUnprocessableEntity
	}
	if isFragment(c, "try") {
		return s.render(c, status, tryResult(p, v))
	}
	return s.render(c, status, policyTryPage(p, v))
}

func (s *pages) try(c echo.Context, p *frame, v *tryView) error {
	trial, err := newTrial(s.policies, v.Form.Policy, s.sandbox)
	var invalid *policy.InvalidError
	if errors.As(err, &invalid) {
		v.Wrong = invalid.Error()
		return nil
	}
	if err != nil {
		return err
	}
	switch v.What {
	case "mail":
		return s.tryMail(c, p, trial, v)
	case "file":
		return s.tryFile(c, p, trial, v)
	}
	return s.tryDays(c, trial, v)
}

func (s *pages) recordTrial(c echo.Context, v *tryView, about audit.Correlation) error {
	who := s.person(c)
	return recordTrial(c.Request().Context(), s.record, who.Actor, who.Roles, v.Form.Policy, about)
}

func (s *pages) tryMail(c echo.Context, p *frame, trial whatif.Trial, v *tryView) error {
	id, err := uuid.Parse(v.Mail)
	if err != nil {
		v.Wrong = p.T("try.wrong.mail")
		return nil
	}
	row, _, err := s.mails.Get(c.Request().Context(), id)
	if errors.Is(err, ledger.ErrNotFound) || err == nil && (row.Workspace != v.Form.Policy.Workspace || !p.User.CanIn(rightViewMeta, row.Workspace)) {
		v.Wrong = p.T("try.wrong.mail")
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.recordTrial(c, v, audit.Correlation{MailID: id.String()}); err != nil {
		return err
	}
	if v.Copies, _ = trial.Row(row); len(v.Copies) == 0 {
		v.Wrong = p.T("try.wrong.served")
	}
	return nil
}

// tryFile looks into an uploaded mail with the real engines. Nobody is asked who
// sent it, since it has no client.
func (s *pages) tryFile(c echo.Context, p *frame, trial whatif.Trial, v *tryView) error {
	header, err := c.FormFile("try.file")
	to := words(c.FormValue("try.to"))
	if err != nil || len(to) == 0 || len(to) > 20 {
		v.Wrong = p.T("try.wrong.file")
		return nil
	}
	f, err := header.Open()
	if err != nil {
		return fmt.Errorf("open uploaded mail: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxUpload))
	if err != nil {
		return fmt.Errorf("read uploaded mail: %w", err)
	}
	if err := s.recordTrial(c, v, audit.Correlation{}); err != nil {
		return err
	}
	in, err := s.trials.Scan(c.Request().Context(), raw, scanner.Question{Workspace: v.Form.Policy.Workspace, Direction: v.Form.Policy.Direction, EnvelopeFrom: short(c.FormValue("try.from"))})
	if errors.Is(err, message.ErrBareNewline) || errors.Is(err, errNoScanner) || errors.Is(err, message.ErrTooBig) {
		v.Wrong = p.T("try.wrong.scan")
		return nil
	}
	if err != nil {
		return err
	}
	v.Findings, v.Silent = in.Report.Findings, in.Report.Failed()
	if v.Copies, _ = trial.Decide(in, v.Form.Policy.Direction, to); len(v.Copies) == 0 {
		v.Wrong = p.T("try.wrong.served")
	}
	return nil
}

// tryDays goes on with the mail of the last days for a few seconds. The form
// that it answers with brings the result so far back: no process keeps it.
func (s *pages) tryDays(c echo.Context, trial whatif.Trial, v *tryView) error {
	n := 7
	if v.What == "30" {
		n = 30
	}
	v.What = strconv.Itoa(n)
	var so whatif.Result
	if text := c.FormValue("try.so"); text != "" && json.Unmarshal([]byte(text), &so) != nil {
		return errBadInput
	}
	if err := s.recordTrial(c, v, audit.Correlation{}); err != nil {
		return err
	}
	res, err := trial.Batch(c.Request().Context(), s.trials, v.Form.Policy.Workspace, s.now().Add(-days(n)), so)
	res.Finish()
	v.Result = &res
	return err
}

// explained are the sentences about a decision; those of old records are one.
func explained(d policy.RecipientDecision) []policy.Line {
	if len(d.Explain) == 0 && d.Why != "" {
		return []policy.Line{{Text: d.Why}}
	}
	return d.Explain
}

// explainLink leads to the entry that a sentence rests on.
func explainLink(l policy.Line) string {
	if l.EntryID == uuid.Nil {
		return ""
	}
	return "/policies/entries/" + l.EntryID.String()
}
