package quarantine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/approval"
	"mailward/policy"
)

// TestLegalHold: what is held is neither deleted nor does it expire, and lifting
// the hold takes two people.
func TestLegalHold(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Required)
	ctx := context.Background()
	id := f.hold(t, "evidence", "bob@ours.example")
	if _, err := f.SetHold(ctx, f.users[0], nil, id, "case 7"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Delete(ctx, f.users[0], nil, id, "clean up"); !errors.Is(err, ErrLegalHold) {
		t.Errorf("deleted: %v", err)
	}
	f.now = func() time.Time { return time.Now().Add(400 * 24 * time.Hour) }
	if n, err := f.Expire(ctx); n != 0 || err != nil {
		t.Errorf("%d expired, %v", n, err)
	}
	f.now = time.Now
	waiting, err := f.LiftHold(ctx, f.users[0], nil, id, "case closed")
	if err != nil || !waiting {
		t.Fatalf("lifted by one person: waiting %v, %v", waiting, err)
	}
	p, err := f.asks().List(ctx, listOfRequests())
	if err != nil || len(p.Items) != 1 {
		t.Fatalf("%d requests, %v", len(p.Items), err)
	}
	if err := f.DecideHold(ctx, f.users[0], nil, p.Items[0].ID, true, "yes"); err == nil {
		t.Error("who asked has agreed")
	}
	if err := f.DecideHold(ctx, f.users[1], nil, p.Items[0].ID, true, "yes"); err != nil {
		t.Fatal(err)
	}
	if it, err := f.Get(ctx, id); err != nil || it.LegalHoldAt != nil {
		t.Errorf("still held: %v, %v", it.LegalHoldAt, err)
	}
	if _, err := f.Delete(ctx, f.users[0], nil, id, "clean up"); err != nil {
		t.Errorf("not deleted after the hold: %v", err)
	}
}

// TestRules: a class decides how many people a release takes, how long a request
// waits and how long the mail is kept; who loosens a rule needs a second person.
func TestRules(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Required)
	ctx := context.Background()
	id := f.hold(t, "spam", "bob@ours.example")
	if _, err := f.db.Admin(t).Exec(ctx, "UPDATE quarantine_item SET class = 'spam' WHERE id = $1", id); err != nil {
		t.Fatal(err)
	}
	if it, err := f.Release(ctx, f.users[0], nil, id, ReleaseRequest{Reason: "wanted"}); err != nil || it.State != ReleaseScheduled {
		t.Errorf("spam by one person: %s, %v", it.State, err)
	}
	waiting, err := f.ChangeRule(ctx, f.users[0], nil, policy.DefaultWorkspace, Rule{Class: policy.Malware, People: 1}, "quicker")
	if err != nil || !waiting {
		t.Errorf("loosened by one person: %v, %v", waiting, err)
	}
	if waiting, err = f.ChangeRule(ctx, f.users[0], nil, policy.DefaultWorkspace, Rule{Class: policy.Malware, RequestHours: 1, KeepDays: 90}, "longer"); err != nil || waiting {
		t.Fatalf("%v, %v", waiting, err)
	}
	id = f.hold(t, "malware", "bob@ours.example")
	it, err := f.Release(ctx, f.users[0], nil, id, ReleaseRequest{Reason: "wanted"})
	if err != nil || it.State != ReleaseRequested || it.ExpiresAt.Before(time.Now().Add(89*24*time.Hour)) {
		t.Fatalf("%s until %v, %v", it.State, it.ExpiresAt, err)
	}
	f.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if _, err := f.Approve(ctx, f.users[1], nil, id, "too late"); !errors.Is(err, ErrState) {
		t.Errorf("agreed after the end: %v", err)
	}
	if n, err := f.ExpireRequests(ctx); n != 1 || err != nil {
		t.Errorf("%d requests ended, %v", n, err)
	}
	f.now = time.Now
	if it, err = f.Get(ctx, id); err != nil || it.State != Quarantined {
		t.Errorf("%s, %v", it.State, err)
	}
	own := f.newUser(t, "bob@ours.example", "")
	if _, err := f.Release(ctx, f.users[0], nil, id, ReleaseRequest{Reason: "wanted"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Approve(ctx, own, nil, id, "it is mine"); !errors.Is(err, ErrOwnMail) {
		t.Errorf("a recipient agreed: %v", err)
	}
	if _, err := f.Deny(ctx, own, nil, id, "I did not ask for it"); err != nil {
		t.Errorf("a recipient may not leave it held: %v", err)
	}
	if _, err := f.Release(ctx, f.users[0], nil, id, ReleaseRequest{Reason: "x", Others: []string{"eve@elsewhere.example"}}); !errors.Is(err, ErrNotServed) {
		t.Errorf("released to a stranger: %v", err)
	}
}

func listOfRequests() approval.Filter {
	return approval.Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Kind: approval.LegalHold}
}
