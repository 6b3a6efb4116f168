package evidence

import (
	"errors"
	"testing"

	"mailward/approval"
	"mailward/policy"
	"mailward/quarantine"
)

// TestWaiting_KeepsItsMail: what an export waits for is neither deleted nor expired
// before it is made, and both again once it has ended.
func TestWaiting_KeepsItsMail(t *testing.T) {
	t.Parallel()
	f := newFixture(t, approval.Required)
	item := f.hold(policy.Malware, original)
	e := f.export(request(item))
	if e.State != Requested {
		t.Fatalf("%s, want a request", e.State)
	}
	ctx := t.Context()
	if _, err := f.Quarantine.Delete(ctx, f.users[0], nil, item, "not needed"); !errors.Is(err, quarantine.ErrLegalHold) {
		t.Errorf("deleted under an export that waits: %v", err)
	}
	f.exec("UPDATE quarantine_item SET expires_at = now() - interval '1 day' WHERE id = $1", item)
	if n, err := f.Quarantine.Expire(ctx); err != nil || n != 0 {
		t.Errorf("%d expired under an export that waits, %v", n, err)
	}
	f.exec("UPDATE evidence_export SET state = 'denied' WHERE id = $1", e.ID)
	if n, err := f.Quarantine.Expire(ctx); err != nil || n != 1 {
		t.Errorf("%d expired after it, %v", n, err)
	}
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Admin(f.t).Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatal(err)
	}
}
