package gateway

import (
	"context"
	"log/slog"
	"testing"

	"mailward/gateway/history"
)

// TestHandle_Remembers sends mail through the gateway and looks at what it knows
// of the sender afterwards.
func TestHandle_Remembers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	ctx := context.Background()
	f.srv.deps.History = history.New(f.db.DB, slog.New(slog.DiscardHandler))
	f.scan.from = "Anna <anna@sender.example>"
	f.wantReply(f.send("clean"), 250)
	f.wantReply(f.send("malware"), 250)
	f.wantReply(f.send("spam"), 250)
	f.scan.down.Store(true)
	f.wantReply(f.send("clean, put off"), 451)
	done, cancel := context.WithCancel(ctx)
	cancel()
	_ = f.srv.deps.History.Run(done) // its end writes all
	var mails, bad int
	fatal(t, f.db.Pool.QueryRow(ctx, "SELECT max(mails), max(bad) FROM sender_history").Scan(&mails, &bad))
	if mails != 3 || bad != 2 {
		t.Errorf("%d mails, %d bad, want 3 and 2", mails, bad)
	}
	if n := f.count("SELECT count(*) FROM sender_history"); n != 3 {
		t.Errorf("%d keys, want 3: all mail, the sender, the sender's domain", n)
	}
}
