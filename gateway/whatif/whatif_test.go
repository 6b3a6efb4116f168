package whatif

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/gateway/ledger"
	"mailward/internal/testenv"
	"mailward/policy"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// TestTrial decides a real ledger again, in batches, by a threshold that is not
// saved.
func TestTrial(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	now := policy.NewStore(db.DB, policy.StaticRoutes{Domains: map[string]string{"ours.example": "a:25"}}, log)
	if err := now.Load(ctx); err != nil {
		t.Fatal(err)
	}
	l := ledger.New(db.DB, log)
	put := func(i int, to string, score float64, at time.Time) {
		id := uuid.Must(uuid.NewV7())
		copy(id[:6], uuidTime(at))
		err := l.Decided(ctx, ledger.Row{ID: id, Workspace: policy.DefaultWorkspace, ReceivedAt: at, Subject: fmt.Sprintf("mail %d", i), HeaderFrom: "a@x.example", SHA256: strings.Repeat("ab", 32),
			Recipients: []policy.RecipientDecision{{Address: to}}, Class: policy.Clean, Action: policy.Deliver, RawHeader: []byte("X: y\r\n"),
			Findings: []policy.Finding{{Engine: policy.PhishingEngine, Name: "S", Score: score}}, Engines: []policy.EngineAnswer{{Engine: "clamav", Answered: true}}})
		if err != nil {
			t.Error(err)
		}
	}
	done := make(chan bool)
	const mails = batchRows + 20
	for w := range 20 {
		go func() {
			for i := w; i < mails; i += 20 {
				score := 1.0
				if i%10 == 0 {
					score = 4
				}
				put(i, "bob@ours.example", score, time.Now().Add(-time.Hour))
			}
			done <- true
		}()
	}
	for range 20 {
		<-done
	}
	put(1, "bob@gone.example", 4, time.Now())
	put(2, "bob@ours.example", 4, time.Now().Add(-40*24*time.Hour))
	l.Close()
	then, err := now.With(policy.Policy{Domain: "ours.example", Thresholds: policy.Thresholds{Phishing: 3.5}})
	if err != nil {
		t.Fatal(err)
	}
	trial, from := Trial{Before: now, After: then, BatchTime: time.Nanosecond}, time.Now().Add(-7*24*time.Hour)
	var res Result
	for steps := 1; ; steps++ {
		if res, err = trial.Batch(ctx, l, policy.DefaultWorkspace, from, res); err != nil {
			t.Fatal(err)
		}
		if res.Next == uuid.Nil {
			if steps < 2 {
				t.Error("all of it in one batch")
			}
			break
		}
	}
	res.Finish()
	if res.Mails != mails+1 || res.Unserved != 1 || res.Changed != 52 || len(res.Examples) != 52 {
		t.Errorf("%d mails, %d unserved, %d changed, %d examples", res.Mails, res.Unserved, res.Changed, len(res.Examples))
	}
	if len(res.Cells) != 2 || res.Cells[0] != (Cell{policy.Clean, policy.Deliver, policy.Quarantine, 52}) || res.Cells[1].Count != mails-52 {
		t.Errorf("%+v", res.Cells)
	}
	if e := res.Examples[0]; !strings.Contains(e.After.Why, "the policy of the workspace says quarantine") {
		t.Errorf("%+v", e.After)
	}
	copies, _ := trial.Row(ledger.Row{Findings: []policy.Finding{{Engine: policy.PhishingEngine, Name: "S", Score: 4}}, Recipients: []policy.RecipientDecision{{Address: "bob@ours.example"}}})
	if len(copies) != 1 || !strings.Contains(copies[0].After.Explain[0].Text, "from 3.5 on it counts as phishing; the threshold comes from the policy of ours.example") || copies[0].Before.Action != policy.Deliver {
		t.Errorf("%+v", copies)
	}
	if other, err := trial.Batch(ctx, l, uuid.New(), from, Result{}); err != nil || other.Mails != 0 {
		t.Errorf("another workspace: %+v, %v", other, err)
	}
}

// uuidTime is the time of a UUIDv7.
func uuidTime(at time.Time) []byte {
	ms := at.UnixMilli()
	return []byte{byte(ms >> 40), byte(ms >> 32), byte(ms >> 24), byte(ms >> 16), byte(ms >> 8), byte(ms)}
}
