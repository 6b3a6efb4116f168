package seal

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// TestSixtyFourWriters has 64 connections append at once while two processes
// number and seal: no number is missing, every leaf fits, and each checkpoint
// grew out of the one before. Not parallel: it needs most of the server's connections.
func TestSixtyFourWriters(t *testing.T) {
	db := testenv.Postgres(t)
	wide, err := pg.Open(context.Background(), db.URL+" pool_max_conns=70", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	const writers, each = 64, 25
	dir, ctx := t.TempDir(), context.Background()
	log := audit.New(wide, audit.Options{Observer: audit.Observer{Node: "test", Version: "1"}})
	s := New(Config{Origin: origin}, Deps{DB: wide, Audit: log, Keys: Local{filepath.Join(dir, "keys")}, Local: File{filepath.Join(dir, "head.json")}})
	var writing, sealing sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		sealing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := log.Sequence(ctx); err != nil {
					t.Error(err)
				}
				if _, err := s.Seal(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range writers {
		writing.Go(func() {
			for range each {
				if err := log.Record(ctx, audit.Event{Action: audit.APICall, Actor: pg.Actor{Type: pg.ActorUser, Email: "bob@ours.example"}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	sealing.Wait()
	r := &rig{s, t, db, dir}
	r.act(0, "")
	c := r.seal()
	if c.Size < writers*each {
		t.Errorf("%d events are sealed, want at least %d", c.Size, writers*each)
	}
	if res, err := log.Verify(ctx); err != nil || res.Problem != "" || res.Events < writers*each {
		t.Errorf("%+v, %v", res, err)
	}
	if v, err := s.VerifyDatabase(ctx, ""); err != nil || v.Problem != "" || v.Checkpoints < 2 {
		t.Errorf("%+v, %v", v, err)
	}
	if rep := r.verify(r.bundle(Part{}), proof.Options{}); rep.Problem != "" || rep.Checkpoints < 2 {
		t.Errorf("%+v", rep)
	}
}
