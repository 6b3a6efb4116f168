package sandbox

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
)

// hold is an open question.
type hold struct {
	id, item          uuid.UUID
	cause             string
	created, deadline time.Time
	verdict           policy.SandboxVerdict // empty: open
	parts             []part
}

// part is one file of a question.
type part struct {
	sha256, path, name string
	size               int64
	skipped            string
	task               *uuid.UUID
	state              string // of the task
	verdict            policy.SandboxVerdict
	score              float64
	family             string
	signatures         []quarantine.SandboxSignature
	err                string
}

func (q *Queue) load(ctx context.Context, id uuid.UUID) (h hold, err error) {
	if err = q.deps.DB.QueryRow(ctx, holdSQL, id).Scan(&h.id, &h.item, &h.cause, &h.created, &h.deadline, &h.verdict); err != nil {
		return h, fmt.Errorf("read hold: %w", err)
	}
	rows, err := q.deps.DB.Query(ctx, partsSQL, id)
	if err != nil {
		return h, fmt.Errorf("read parts of hold: %w", err)
	}
	h.parts, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p part, err error) {
		var signatures []byte
		if err = row.Scan(&p.sha256, &p.path, &p.name, &p.size, &p.skipped, &p.task, &p.state, &p.verdict, &p.score, &p.family, &signatures, &p.err); err != nil {
			return p, err
		}
		return p, json.Unmarshal(signatures, &p.signatures)
	})
	if err != nil {
		return h, fmt.Errorf("read parts of hold: %w", err)
	}
	return h, nil
}

// ended says whether nothing more will come, and what all of it comes to. One
// malicious file is enough: the others need not be waited for.
func (h hold) ended() (policy.SandboxVerdict, bool) {
	var list []policy.SandboxVerdict
	open := false
	for _, p := range h.parts {
		switch {
		case p.skipped != "":
			list = append(list, policy.NoVerdict)
		case p.state == "finished":
			list = append(list, p.verdict)
		default:
			open = true
		}
	}
	if slices.Contains(list, policy.SandboxMalicious) {
		return policy.SandboxMalicious, true
	}
	return policy.WorstVerdict(list...), !open
}

// Step does for one question what can be done now, and says when to come again:
// 0 when it is decided.
func (q *Queue) Step(ctx context.Context, id uuid.UUID) (time.Duration, error) {
	h, err := q.load(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && h.verdict != "" {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	item, err := q.deps.Store.Get(ctx, h.item)
	if err != nil {
		return 0, err
	}
	if why := over(h, item); why != "" {
		return 0, q.decide(ctx, h, item, policy.NoVerdict, why)
	}
	if time.Now().Before(h.deadline) {
		if err := q.link(ctx, h); err != nil {
			return 0, err
		}
		// Nobody waits behind a task that fails: all get their turn.
		var errs []error
		if h, err = q.load(ctx, id); err != nil {
			return 0, err
		}
		for _, p := range h.parts {
			if p.task != nil && p.state != "finished" {
				errs = append(errs, q.advance(ctx, *p.task, p))
			}
		}
		if err := errors.Join(errs...); err != nil {
			return 0, err
		}
		if h, err = q.load(ctx, id); err != nil {
			return 0, err
		}
	}
	if v, done := h.ended(); done {
		return 0, q.decide(ctx, h, item, v, h.words(v))
	}
	if left := time.Until(h.deadline); left > 0 {
		return max(min(q.cfg.PollEvery, left), 10*time.Millisecond), nil
	}
	return 0, q.decide(ctx, h, item, policy.NoVerdict, "no verdict until the deadline. "+h.words(policy.NoVerdict))
}

// over says why nobody waits for the answer any more, or "".
func over(h hold, item quarantine.Item) string {
	if item.BlobRemovedAt != nil {
		return "the mail is gone"
	}
	if h.cause == "policy" && !slices.ContainsFunc(item.Recipients, func(r quarantine.ItemRecipient) bool { return r.State == quarantine.Held }) {
		return "somebody has decided meanwhile"
	}
	return ""
}

// words is a verdict in words.
func (h hold) words(v policy.SandboxVerdict) string {
	var said []string
	for _, p := range h.parts {
		name := cmp.Or(p.name, p.path)
		switch {
		case p.skipped != "":
			said = append(said, name+": not sent, "+p.skipped)
		case p.verdict == policy.NoVerdict:
			said = append(said, name+": no verdict, "+cmp.Or(p.err, "nothing ran"))
		case p.verdict != "":
			said = append(said, fmt.Sprintf("%s: %s, %.1f", name, p.verdict, p.score))
		default:
			said = append(said, name+": "+cmp.Or(p.state, "waiting")+strings.TrimRight(", "+p.err, ", "))
		}
	}
	return clean(string(v) + ": " + strings.Join(said, "; "))
}

// link gives each file its task: one with a verdict that still holds, or the
// open one about the same bytes, whoever asked for it.
func (q *Queue) link(ctx context.Context, h hold) error {
	var version string
	for _, p := range h.parts {
		if p.task != nil || p.skipped != "" {
			continue
		}
		if version == "" {
			version = q.capeVersion(ctx)
		}
		if err := q.linkOne(ctx, h, p, version); err != nil {
			return fmt.Errorf("link part %s: %w", p.path, err)
		}
	}
	return nil
}

func (q *Queue) linkOne(ctx context.Context, h hold, p part, version string) error {
	sum, err := hex.DecodeString(p.sha256)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	return q.deps.DB.Act(ctx, actor(h.id), func(ctx context.Context, tx pgx.Tx) error {
		if version != "" {
			var known uuid.UUID
			err := tx.QueryRow(ctx, cachedSQL, sum, time.Now().Add(-q.cfg.CacheFor), version).Scan(&known)
			if err == nil {
				_, err = tx.Exec(ctx, linkSQL, h.id, sum, known)
				return err
			}
			if !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
		}
		if _, err := tx.Exec(ctx, insertTaskSQL, id, sum); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, linkOpenSQL, h.id, sum)
		return err
	})
}

// versionFor is how long the sandbox's version is believed: an upgrade of it
// makes old verdicts worthless.
const versionFor = time.Minute

// capeVersion is the sandbox's version, or "" where it does not say: then no
// verdict is taken from the cache.
func (q *Queue) capeVersion(ctx context.Context) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.asked) > versionFor || q.version == "" {
		s, err := q.deps.Cape.Server(ctx)
		q.version, q.asked = "", time.Now()
		if err == nil {
			q.version = s.Version
		}
	}
	return q.version
}

func actor(id uuid.UUID) pg.Actor { return pg.System("sandbox", "hold "+id.String()) }

// decide ends a question, once: item, release and record in one transaction.
func (q *Queue) decide(ctx context.Context, h hold, item quarantine.Item, v policy.SandboxVerdict, why string) error {
	in, err := q.deps.Heard(ctx, item)
	if err != nil {
		return fmt.Errorf("what was known of item %s: %w", item.ID, err)
	}
	in.Entries, in.SandboxConfigured = q.deps.Policies.Entries(item.Workspace), true
	o := h.outcome(item, v)
	o.Decide = func(copies []quarantine.ItemRecipient) []policy.RecipientDecision {
		return q.decisions(in, item, copies, v)
	}
	decided, late := false, false
	err = q.deps.DB.Act(ctx, actor(h.id), func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, lockHoldSQL, h.id).Scan(&decided); err != nil || !decided {
			return err
		}
		var err error
		if late, err = q.deps.Store.SandboxDecided(ctx, tx, actor(h.id), item, o); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, decideSQL, h.id, string(v), why)
		return err
	})
	if err != nil {
		return fmt.Errorf("decide hold %s: %w", h.id, err)
	}
	if late {
		q.countLate(item, true)
	}
	if decided {
		q.metrics.decided.WithLabelValues(string(v)).Inc()
		q.log.Info("sandbox decided", "mail", item.MailID, "item", item.ID, "verdict", v, "waited", time.Since(h.created).Round(time.Millisecond).String())
	}
	return nil
}

// decisions asks the policies of now. A recipient that we serve no more gets
// nothing.
func (q *Queue) decisions(in policy.Input, item quarantine.Item, copies []quarantine.ItemRecipient, v policy.SandboxVerdict) []policy.RecipientDecision {
	out := make([]policy.RecipientDecision, len(copies))
	for i, c := range copies {
		r, ok := q.deps.Policies.Lookup(c.Address)
		if item.Direction == policy.Outbound {
			r, ok = q.deps.Policies.Outbound(item.EnvelopeFrom, c.Address)
		}
		if !ok {
			out[i] = policy.RecipientDecision{Address: c.Address, Action: policy.Quarantine, Why: "its domain is not served any more"}
			continue
		}
		in.Recipients = []policy.Recipient{r}
		out[i] = policy.AfterSandbox(in, v)[0]
	}
	return out
}

// Weights of what the sandbox finds, as of other engines' hits of the class.
const (
	maliciousWeight  = 10
	suspiciousWeight = 5
)

// outcome is what a verdict adds to an item.
func (h hold) outcome(item quarantine.Item, v policy.SandboxVerdict) quarantine.SandboxOutcome {
	o := quarantine.SandboxOutcome{Verdict: v, Class: item.Class}
	for _, p := range h.parts {
		f := policy.Finding{Engine: "sandbox", Part: p.path, PartName: p.name, Meta: map[string]string{"cape_score": fmt.Sprintf("%.1f", p.score)}}
		switch p.verdict {
		case policy.SandboxMalicious:
			f.Class, f.Score = policy.Malware, maliciousWeight
		case policy.SandboxSuspicious:
			f.Class, f.Score = policy.Suspicious, suspiciousWeight
		default:
			continue
		}
		f.Name = "CAPE." + string(p.verdict)
		f.Reason = fmt.Sprintf("CAPE ran %q and calls it %s", cmp.Or(p.name, p.path), p.verdict)
		if p.family != "" {
			f.Name, f.Reason = p.family, f.Reason+": "+p.family
		} else if len(p.signatures) > 0 {
			f.Reason += ": " + cmp.Or(p.signatures[0].Description, p.signatures[0].Name)
		}
		o.Findings = append(o.Findings, f)
		o.Class = policy.Gravest(o.Class, f.Class)
	}
	if v == policy.NoVerdict {
		o.Reasons = []string{"no verdict from the sandbox"}
	}
	return o
}

func clean(s string) string {
	s = pg.Text(s)
	return strings.ToValidUTF8(s[:min(len(s), 2000)], "")
}
