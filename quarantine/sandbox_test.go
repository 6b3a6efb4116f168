package quarantine

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
)

// TestSandboxDecided_FoundMeanwhile: what a scan has found after the sandbox's
// answer was judged and before it was carried out is neither forgotten nor delivered.
func TestSandboxDecided_FoundMeanwhile(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	h := f.request(t, "waits for the sandbox", "anna@ours.example")
	h.Class, h.Recipients[0].Action = policy.Suspicious, policy.Hold
	id, err := f.Hold(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	item, err := f.Get(ctx, id)
	if err != nil || item.Recipients[0].State != Held {
		t.Fatalf("%+v, %v", item.Recipients, err)
	}
	if _, err := f.db.Admin(t).Exec(ctx, "UPDATE quarantine_item SET class = 'malware' WHERE id = $1", id); err != nil {
		t.Fatal(err)
	}
	deliver := func(copies []ItemRecipient) []policy.RecipientDecision {
		return []policy.RecipientDecision{{Address: copies[0].Address, Action: policy.Deliver, Why: "the sandbox found nothing"}}
	}
	system := pg.System("sandbox", "verdict")
	err = f.db.Act(ctx, system, func(ctx context.Context, tx pgx.Tx) error {
		_, err := f.SandboxDecided(ctx, tx, system, item, SandboxOutcome{Verdict: policy.SandboxClean, Class: policy.Suspicious, Decide: deliver})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if item, err = f.Get(ctx, id); err != nil || item.Class != policy.Malware || item.Recipients[0].State != Quarantined {
		t.Errorf("%s, %+v, %v", item.Class, item.Recipients, err)
	}
}
