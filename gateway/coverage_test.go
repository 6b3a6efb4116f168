package gateway

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/policy"
)

// Which mails were decided without an engine, and what became of them.
func TestCoverage(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.wantReply(f.send("hello"), 250)
	f.scan.down.Store(true)
	f.wantReply(f.send("one"), 451)
	f.wantReply(f.send("two"), 451)
	f.wantReply(f.send("malware"), 250) // what was found is enough to keep it
	f.scan.down.Store(false)
	f.wantReply(f.send("hello again"), 250)
	now := time.Now()
	list, err := f.ledger.Coverage(t.Context(), []uuid.UUID{policy.DefaultWorkspace}, now.Add(-time.Hour), now.Add(time.Minute))
	fatal(t, err)
	if len(list) != 1 || list[0].Engine != "clamav" || list[0].Mails != 3 || list[0].PutOff != 2 || list[0].Held != 1 || list[0].Passed != 0 || list[0].To.Before(list[0].From) {
		t.Errorf("%+v", list)
	}
	list, err = f.ledger.Coverage(t.Context(), []uuid.UUID{uuid.New()}, now.Add(-time.Hour), now.Add(time.Minute))
	if err != nil || len(list) != 0 {
		t.Errorf("another workspace sees %+v (%v)", list, err)
	}
}
