package evidence

import (
	"context"
	"errors"
	"testing"
	"time"

	"mailward/approval"
	"mailward/audit"
	"mailward/evidence/store"
	"mailward/internal/pg"
	"mailward/internal/worm"
	"mailward/policy"
)

// slowVault calls in at the first file that is put.
type slowVault struct {
	store.Store
	call func()
}

func (v *slowVault) Put(ctx context.Context, key, kind string, data []byte, l worm.Lock) (store.Object, error) {
	if call := v.call; call != nil {
		v.call = nil
		call()
	}
	return v.Store.Put(ctx, key, kind, data, l)
}

// TestNext_OneWorkerEnds: of two workers, the first of which was away for longer
// than its lease, the second makes the export, and the first changes nothing more.
func TestNext_OneWorkerEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, approval.SingleOperator)
	ctx := t.Context()
	e, err := f.Ask(ctx, f.users[0], nil, request(f.hold(policy.Malware, original)))
	if err != nil {
		t.Fatal(err)
	}
	var second Export
	f.Vault = &slowVault{Store: f.Vault, call: func() {
		f.exec("UPDATE evidence_export SET lease_until = now() - interval '1 second' WHERE id = $1", e.ID)
		second = f.made(e.ID)
	}}
	first := f.made(e.ID)
	if second.State != Done || first.State != Done || first.ReceiptID != second.ReceiptID {
		t.Errorf("%s by %s, then %s by %s", second.State, second.ReceiptID, first.State, first.ReceiptID)
	}
	for action, want := range map[string]int{audit.EvidenceStored: 1, audit.EvidenceSealed: 1, audit.EvidenceFailed: 0} {
		if n := f.events(action); n != want {
			t.Errorf("%d of %s, want %d", n, action, want)
		}
	}
}

// TestKept: a step that takes long keeps its export, and ends when it is lost.
func TestKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t, approval.SingleOperator)
	e := f.export(request(f.hold(policy.Spam, original)))
	f.exec("UPDATE evidence_export SET state = 'running', tries = 3, lease_until = now() - interval '1 second' WHERE id = $1", e.ID)
	err := f.kept(t.Context(), e.ID, 3, 10*time.Millisecond, func(ctx context.Context) error {
		for kept := false; !kept; {
			if err := f.db.Pool.QueryRow(ctx, "SELECT lease_until > now() FROM evidence_export WHERE id = $1", e.ID).Scan(&kept); err != nil {
				return err
			}
		}
		f.exec("UPDATE evidence_export SET tries = 4 WHERE id = $1", e.ID)
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, pg.ErrLeaseLost) {
		t.Errorf("%v, want %v", err, pg.ErrLeaseLost)
	}
}
