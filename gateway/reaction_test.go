package gateway

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"mailward/policy"
	"mailward/quarantine"
)

// react begins a reaction for ours.example, as package alerting does.
func (f *fixture) react(kind policy.MeasureKind, most int, trial bool) uuid.UUID {
	f.t.Helper()
	id := uuid.Must(uuid.NewV7())
	_, err := f.db.Exec(context.Background(), `INSERT INTO alert_reaction (id, kind, dry_run, domain, most, cause, reason, author, ends_at)
		VALUES ($1, $2, $3, 'ours.example', $4, 'Phishing spike', 'it fires', 'System', now() + interval '1 hour')`, id, kind, trial, most)
	fatal(f.t, err)
	fatal(f.t, f.srv.deps.Policies.Load(context.Background()))
	return id
}

func (f *fixture) undo(id uuid.UUID) {
	f.t.Helper()
	_, err := f.db.Exec(context.Background(), "UPDATE alert_reaction SET ended_at = now(), end_kind = 'undo', ended_by = 'SOC' WHERE id = $1", id)
	fatal(f.t, err)
	fatal(f.t, f.srv.deps.Policies.Load(context.Background()))
}

// A lock holds clean mail, no more of it than it may, is found by its name, and
// feeds no alert about held mail.
func TestHandle_Lock(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	heard := &tally{n: map[string]float64{}}
	f.srv.deps.Counter = heard
	trial := f.react(policy.MeasureLock, 5, true)
	f.wantReply(f.send("only tried"), 250)
	f.wantHop(1)
	f.wantExplained("only tried", "would quarantine it")
	f.undo(trial)

	id := f.react(policy.MeasureLock, 2, false)
	f.wantReply(f.send("locked one"), 250)
	f.wantReply(f.send("locked two"), 250)
	f.wantHop(1)
	f.wantReply(f.send("one too many"), 250)
	f.wantHop(2)
	if n := f.count("SELECT count(*) FROM quarantine_item WHERE class = 'clean'"); n != 2 {
		t.Errorf("%d held, want 2", n)
	}
	f.wantExplained("locked two", "a reaction to an alert (Phishing spike) quarantines it for now")
	found, err := f.held.List(context.Background(), quarantine.Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Symbol: policy.LockName(id)})
	if err != nil || len(found.Items) != 2 {
		t.Errorf("%v: %d found by the reaction", err, len(found.Items))
	}
	heard.mu.Lock()
	defer heard.mu.Unlock()
	if n := heard.n["quarantine_rate_5min ours.example"]; n != 0 {
		t.Errorf("a lock counts as %v held mails", n)
	}
	if n := f.srv.deps.Policies.Measures(policy.DefaultWorkspace); len(n) != 0 {
		t.Error("it is full")
	}
	f.undo(id)
}

// While releases are paused what a person lets go stays, and goes afterwards.
func TestRelease_Paused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	it := f.heldItem("malware to be released")
	id := f.react(policy.MeasurePause, 10, false)
	f.release(it)
	f.work()
	f.wait("the release to be held back", func() bool {
		return f.count("SELECT count(*) FROM delivery WHERE state = 'queued' AND attempts = 0 AND reply_text = 'releases are paused by a reaction to an alert: Phishing spike'") == 1
	})
	f.wantHop(0)
	if n := f.count("SELECT count(*) FROM alert_reaction_touch WHERE reaction_id = $1", id); n != 1 {
		t.Errorf("%d on the list of the reaction", n)
	}
	f.undo(id)
	_, err := f.db.Admin(t).Exec(context.Background(), "UPDATE delivery SET next_attempt_at = now()")
	fatal(t, err)
	f.wantState(it, quarantine.Released)
	f.wantHop(1)
}
