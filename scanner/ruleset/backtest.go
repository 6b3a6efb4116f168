package ruleset

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/samples"
	"mailward/scanner"
)

// Bounds of trials. docs/standards.md has the same table.
const (
	MaxBacktestMails = 1000
	maxOpen          = 10               // trials that have not ended
	maxTries         = 3                // of one trial whose process died
	maxHits          = 200              // mails that are named
	maxFailures      = 5                // mails in a row without an answer
	lease            = 2 * time.Minute  // a mail takes 40 s at most
	backtestEvery    = 5 * time.Second  // a notification may be lost
	backtestLimit    = 30 * time.Minute // of one trial
	progressEvery    = 500 * time.Millisecond
)

// Backtest is one trial of one version of a set, on held mails and on samples
// that are harmless.
type Backtest struct {
	ID         uuid.UUID      `json:"id"`
	SetID      uuid.UUID      `json:"set_id"`
	Number     int            `json:"number"`
	Mails      int            `json:"mails" doc:"how many were asked for"`
	Workspaces []uuid.UUID    `json:"workspaces" nullable:"false"`
	Requester  string         `json:"requester"`
	State      string         `json:"state" enum:"queued,running,done,failed"`
	Total      int            `json:"total"`
	Done       int            `json:"done"`
	Result     BacktestResult `json:"result"`
	Error      string         `json:"error,omitempty"`
	CreatedAt  time.Time      `json:"created_at"`
	FinishedAt *time.Time     `json:"finished_at,omitempty"`
}

// Ended says whether there is nothing more to wait for.
func (b Backtest) Ended() bool { return b.State == "done" || b.State == "failed" }

// BacktestResult is what a trial came to.
type BacktestResult struct {
	Mails      int               `json:"mails"`
	Samples    int               `json:"samples"`
	Unread     int               `json:"unread" doc:"mails without an answer"`
	HitMails   int               `json:"hit_mails"`
	HitSamples int               `json:"hit_samples" doc:"false alarms"`
	Rules      []RuleHits        `json:"rules" nullable:"false"`
	Hits       []MailHit         `json:"hits" nullable:"false"`
	Bytes      int64             `json:"bytes" doc:"that were matched"`
	TookNS     int64             `json:"took_ns"`
	InForceNS  int64             `json:"in_force_ns" doc:"of the rules in force, on the same bytes"`
	Slow       *scanner.SlowRule `json:"slow,omitempty" doc:"the rule that ended the trial"`
}

// RuleHits is how often one rule matched.
type RuleHits struct {
	Rule    string `json:"rule"`
	Mails   int    `json:"mails"`
	Samples int    `json:"samples"`
}

// MailHit is a mail in which something was found.
type MailHit struct {
	Sample    string       `json:"sample,omitempty"`
	Item      *uuid.UUID   `json:"item_id,omitempty"`
	Workspace *uuid.UUID   `json:"workspace_id,omitempty"`
	Class     policy.Class `json:"class,omitempty" doc:"that the mail is held for"`
	Rules     []string     `json:"rules" nullable:"false"`
}

// PerMB is what a megabyte takes, of the trial and of the rules in force.
func (r BacktestResult) PerMB() (trial, inForce time.Duration) {
	mb := float64(max(r.Bytes, 1)) / 1e6
	return time.Duration(float64(r.TookNS) / mb), time.Duration(float64(r.InForceNS) / mb)
}

func (r *BacktestResult) add(h MailHit, t scanner.Trial) {
	r.Bytes, r.TookNS, r.InForceNS, r.Slow = r.Bytes+t.Bytes, r.TookNS+t.TookNS, r.InForceNS+t.InForceNS, t.Slow
	sample := h.Sample != ""
	if sample {
		r.Samples++
	} else {
		r.Mails++
	}
	h.Rules = []string{}
	for _, f := range t.Findings {
		if !slices.Contains(h.Rules, f.Name) {
			h.Rules = append(h.Rules, f.Name)
		}
	}
	if len(h.Rules) == 0 {
		return
	}
	for _, name := range h.Rules {
		i := slices.IndexFunc(r.Rules, func(x RuleHits) bool { return x.Rule == name })
		if i < 0 {
			i, r.Rules = len(r.Rules), append(r.Rules, RuleHits{Rule: name})
		}
		if sample {
			r.Rules[i].Samples++
		} else {
			r.Rules[i].Mails++
		}
	}
	if sample {
		r.HitSamples++
	} else {
		r.HitMails++
	}
	if len(r.Hits) < maxHits {
		r.Hits = append(r.Hits, h)
	}
}

// StartBacktest asks for a trial of one version, on the newest held mails of
// workspaces in which the person may look into mails, and on the samples. That
// it reads content is on record with this act.
func (s *Store) StartBacktest(ctx context.Context, actor pg.Actor, id uuid.UUID, number, mails int, workspaces []uuid.UUID) (Backtest, error) {
	if mails < 0 || mails > MaxBacktestMails {
		return Backtest{}, &policy.InvalidError{Field: "mails", Problem: fmt.Sprintf("must be between 0 and %d", MaxBacktestMails)}
	}
	if _, err := s.Source(ctx, id, number); err != nil {
		return Backtest{}, err
	}
	if workspaces == nil {
		workspaces = []uuid.UUID{}
	}
	bid, err := uuid.NewV7()
	if err != nil {
		return Backtest{}, fmt.Errorf("make id of trial: %w", err)
	}
	var who *uuid.UUID
	if actor.UserID != uuid.Nil {
		who = &actor.UserID
	}
	err = s.deps.DB.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		var open int
		if err := tx.QueryRow(ctx, openBacktestsSQL).Scan(&open); err != nil {
			return err
		}
		if open >= maxOpen {
			return ErrBusy
		}
		_, err := tx.Exec(ctx, insertBacktestSQL, bid, id, number, mails, workspaces, who, actor.Display)
		return err
	})
	if err != nil {
		return Backtest{}, fmt.Errorf("ask for a trial of rule set %s: %w", id, err)
	}
	nudge(s.wake)
	return s.Backtest(ctx, bid)
}

// Backtest reads one trial.
func (s *Store) Backtest(ctx context.Context, id uuid.UUID) (Backtest, error) {
	list, err := s.backtests(ctx, nil, &id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Backtest{}, err
	}
	return list[0], nil
}

// Backtests lists the last 20 trials of a set, the newest first.
func (s *Store) Backtests(ctx context.Context, set uuid.UUID) ([]Backtest, error) {
	return s.backtests(ctx, &set, nil)
}

func (s *Store) backtests(ctx context.Context, set, id *uuid.UUID) ([]Backtest, error) {
	rows, err := s.deps.DB.Query(ctx, backtestsSQL, set, id)
	if err != nil {
		return nil, fmt.Errorf("read trials: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Backtest, err error) {
		var result []byte
		err = row.Scan(&b.ID, &b.SetID, &b.Number, &b.Mails, &b.Workspaces, &b.Requester, &b.State, &b.Total, &b.Done, &result, &b.Error, &b.CreatedAt, &b.FinishedAt)
		if err == nil {
			b.Result = BacktestResult{Rules: []RuleHits{}, Hits: []MailHit{}}
			err = json.Unmarshal(result, &b.Result)
		}
		return b, err
	})
}

// RunBacktests runs trials, one at a time, until ctx ends. Any number of
// processes may do so.
func (s *Store) RunBacktests(ctx context.Context) error {
	t := time.NewTicker(backtestEvery)
	defer t.Stop()
	for {
		for ctx.Err() == nil {
			ran, err := s.runNext(ctx)
			if err != nil && ctx.Err() == nil {
				s.log.Error("trial of rules not run", "error", err)
			}
			if !ran || err != nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-s.wake:
		}
	}
}

// trial is a backtest under way.
type trial struct {
	id, set    uuid.UUID
	number     int
	mails      int
	workspaces []uuid.UUID
	tries      int

	rules       scanner.RuleSet
	total, done int
	noted       time.Time // when the progress was written last
	failures    int       // in a row
	result      BacktestResult
}

func (s *Store) actor(t trial) pg.Actor { return pg.System("backtest", "trial "+t.id.String()) }

// runNext takes up the next trial and brings it to an end.
func (s *Store) runNext(ctx context.Context) (ran bool, err error) {
	t := trial{result: BacktestResult{Rules: []RuleHits{}, Hits: []MailHit{}}}
	err = s.deps.DB.Act(ctx, pg.System("backtest", "queue"), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, claimBacktestSQL, s.owner, lease).Scan(&t.id, &t.set, &t.number, &t.mails, &t.workspaces, &t.tries)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("claim a trial: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, backtestLimit)
	defer cancel()
	state, problem := "done", ""
	if err := s.try(limited, &t); err != nil {
		if ctx.Err() != nil {
			return true, nil // Its lease runs out, and another process begins it anew.
		}
		s.log.Warn("trial of rules failed", "trial", t.id, "error", err)
		state, problem = "failed", publicProblem(err)
	}
	slices.SortFunc(t.result.Rules, func(a, b RuleHits) int {
		return cmp.Or(cmp.Compare(b.Mails+b.Samples, a.Mails+a.Samples), cmp.Compare(a.Rule, b.Rule))
	})
	return true, s.finish(ctx, t, state, problem)
}

// Problems of a trial that a person is told of.
var (
	errDied  = errors.New("the process that ran it died three times")
	errNoSet = errors.New("the rule set is gone")
	errNoAns = errors.New("the scanner did not answer")
)

func publicProblem(err error) string {
	for _, known := range []error{errDied, errNoSet, errNoAns} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "it took longer than 30 minutes"
	}
	return "it could not be run"
}

// try runs a trial: the samples first, then the held mails.
func (s *Store) try(ctx context.Context, t *trial) error {
	if t.tries > maxTries {
		return errDied
	}
	set, err := s.Get(ctx, t.set)
	if errors.Is(err, ErrNotFound) {
		return errNoSet
	}
	if err != nil {
		return err
	}
	v, err := s.Source(ctx, t.set, t.number)
	if err != nil {
		return err
	}
	t.rules = ruleSet(set, v)
	harmless, err := samples.Harmless()
	if err != nil {
		return err
	}
	items, err := s.heldMails(ctx, t)
	if err != nil {
		return err
	}
	t.total = len(harmless) + len(items)
	for _, m := range harmless {
		f, err := scanner.MemoryFile(m.Name, m.Data)
		if err != nil {
			return err
		}
		if err := s.tryOne(ctx, t, f, MailHit{Sample: m.Name}); err != nil || t.result.Slow != nil {
			return err
		}
	}
	for _, it := range items {
		f, err := s.deps.Quarantine.File(ctx, it)
		if err != nil {
			s.log.Warn("held mail not read for a trial", "item", it.ID, "error", err)
			t.result.Unread++
			t.done++
			continue
		}
		if err := s.tryOne(ctx, t, f, MailHit{Item: &it.ID, Workspace: &it.Workspace, Class: it.Class}); err != nil || t.result.Slow != nil {
			return err
		}
	}
	return nil
}

// heldMails are the newest ones of which we have the bytes.
func (s *Store) heldMails(ctx context.Context, t *trial) (out []quarantine.Item, err error) {
	f := quarantine.Filter{Workspaces: t.workspaces, Limit: 500}
	for len(out) < t.mails && len(t.workspaces) > 0 {
		p, err := s.deps.Quarantine.List(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, it := range p.Items {
			if it.BlobRemovedAt == nil && len(out) < t.mails {
				out = append(out, it)
			}
		}
		if f.Cursor = p.Next; f.Cursor == "" {
			break
		}
	}
	return out, nil
}

// tryOne matches one mail, and closes it.
func (s *Store) tryOne(ctx context.Context, t *trial, f *os.File, h MailHit) error {
	defer f.Close()
	got, err := s.deps.Sidecar.TryRules(ctx, f, t.rules)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		t.result.Unread++
		if t.failures++; t.failures == maxFailures {
			return fmt.Errorf("%w: %w", errNoAns, err)
		}
	} else {
		t.failures = 0
		t.result.add(h, got)
	}
	t.done++
	if s.now().Sub(t.noted) < progressEvery {
		return nil
	}
	t.noted = s.now()
	return s.deps.DB.Act(ctx, s.actor(*t), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, progressBacktestSQL, t.id, s.owner, lease, t.total, t.done)
		if err == nil && tag.RowsAffected() == 0 {
			err = errors.New("ruleset: another process has taken the trial over")
		}
		return err
	})
}

// finish stores the result, and puts on record how much mail was read.
func (s *Store) finish(ctx context.Context, t trial, state, problem string) error {
	result, err := json.Marshal(t.result)
	if err != nil {
		return fmt.Errorf("encode result of trial: %w", err)
	}
	actor := s.actor(t)
	ev := audit.Event{Action: audit.BacktestResult, Actor: actor, Retention: audit.Retention3Years, OutcomeDetail: problem,
		Targets: []audit.Target{{Type: "yara_backtest", ID: t.id.String()}, {Type: "yara_set", ID: t.set.String(), Label: t.rules.Name}},
		After:   map[string]any{"version": t.number, "mails": t.result.Mails, "samples": t.result.Samples, "unread": t.result.Unread, "hit_mails": t.result.HitMails, "hit_samples": t.result.HitSamples}}
	if state != "done" {
		ev.Outcome = "failure"
	}
	err = s.deps.DB.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, progressBacktestSQL, t.id, s.owner, lease, t.total, t.done); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, finishBacktestSQL, t.id, s.owner, state, result, problem)
		if err == nil && tag.RowsAffected() == 0 {
			return errors.New("ruleset: another process has taken the trial over")
		}
		if err == nil {
			_, err = s.deps.Audit.Append(ctx, tx, ev)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("end trial %s: %w", t.id, err)
	}
	return nil
}
