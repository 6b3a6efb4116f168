package history

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// store is one on a database of its own whose clock the test sets.
func store(t *testing.T, db *pg.DB, at *time.Time) *Store {
	t.Helper()
	s := New(db, slog.New(slog.DiscardHandler))
	s.now, s.lookLimit = func() time.Time { return *at }, time.Minute
	return s
}

func from(address string, links ...string) Mail {
	return Mail{Workspace: policy.DefaultWorkspace, From: address, Proven: true, Client: netip.MustParseAddr("192.0.2.7"), Links: links}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	db, ctx := testenv.Postgres(t).DB, context.Background()
	at := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	s := store(t, db, &at)
	anna := from("Anna@News.Partner.example", "shop.partner.example", "www.partner.example")
	if h := s.Look(ctx, anna); h.Ripe || h.Sender.Mails != 0 || !h.Sender.Since.IsZero() || len(h.NewLinks) != 1 || h.NewLinks[0] != "partner.example" {
		t.Errorf("nothing was seen yet: %+v", h)
	}
	for i := range ripeMails {
		s.Note(anna, i%10 == 0)
	}
	if h := s.Look(ctx, anna); h.Sender.Mails != ripeMails || h.Sender.Bad != ripeMails/10 || h.Ripe {
		t.Errorf("told and not yet written: %+v", h)
	}
	s.write(ctx)
	at = at.Add(ripeAfter)
	other := store(t, db, &at) // another process
	h := other.Look(ctx, anna)
	if !h.Ripe || h.Sender.Mails != ripeMails || h.Domain.Mails != ripeMails || !h.Sender.Since.Equal(at.Add(-ripeAfter)) || len(h.NewLinks) != 0 || h.Written {
		t.Errorf("written down: %+v", h)
	}
	// The same address from elsewhere, without proof, is a stranger's; its domain
	// is known all the same.
	forged := anna
	forged.Proven, forged.Client = false, netip.MustParseAddr("198.51.100.1")
	if h := other.Look(ctx, forged); h.Sender.Mails != 0 || h.Domain.Mails != ripeMails || h.Proven {
		t.Errorf("forged: %+v", h)
	}
	other.Note(forged, true)
	beside := forged
	beside.Client = netip.MustParseAddr("198.51.100.200")
	if h := other.Look(ctx, beside); h.Sender.Mails != 1 || h.Sender.Bad != 1 {
		t.Errorf("from the same network: %+v", h)
	}
	other.Wrote(policy.DefaultWorkspace, []string{"ANNA@news.partner.example", "nobody", ""})
	if !other.Look(ctx, anna).Written {
		t.Error("our people wrote to her")
	}
	at = at.Add(keep)
	s.sweep(ctx)
	var left int
	if err := db.QueryRow(ctx, "SELECT count(*) FROM sender_history").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows left after %v: %v", left, keep, err)
	}
}

// Nobody is named in the table.
func TestHistory_NamesNobody(t *testing.T) {
	t.Parallel()
	db, ctx, at := testenv.Postgres(t).DB, context.Background(), time.Now()
	s := store(t, db, &at)
	s.Note(from("anna@partner.example", "partner.example"), false)
	s.write(ctx)
	var all string
	if err := db.QueryRow(ctx, "SELECT string_agg(encode(key, 'escape') || h::text, ' ') FROM sender_history h").Scan(&all); err != nil {
		t.Fatal(err)
	}
	if all == "" || strings.Contains(all, "anna") || strings.Contains(all, "partner") {
		t.Error(all)
	}
}

// Without an author, or with an address that is none, nobody is remembered.
func TestHistory_NoAuthor(t *testing.T) {
	t.Parallel()
	at := time.Now()
	s := store(t, testenv.Postgres(t).DB, &at)
	for _, a := range []string{"", "@", "anna", "@x.example", "anna@"} {
		s.Note(from(a), true)
		if h := s.Look(context.Background(), from(a)); h.Sender.Mails != 0 || h.Domain.Mails != 0 {
			t.Errorf("%q: %+v", a, h)
		}
	}
}

// While the database is away, nobody is known, what is told waits within bounds,
// and all of it is written when it is back.
func TestHistory_DatabaseAway(t *testing.T) {
	t.Parallel()
	db, ctx, at := testenv.Postgres(t).DB, context.Background(), time.Now()
	var log bytes.Buffer
	s := store(t, db, &at)
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	gone, err := pg.Open(ctx, "postgres:///none?host=/nonexistent", s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	s.db = gone
	if h := s.Look(ctx, from("anna@partner.example")); h.Ripe || h.Sender.Mails != 0 {
		t.Errorf("%+v", h)
	}
	for i := range waitMost {
		s.Note(from(fmt.Sprintf("a%d@partner.example", i)), false)
	}
	s.write(ctx)
	if n := len(s.waiting); n != waitMost {
		t.Errorf("%d keys wait, want %d", n, waitMost)
	}
	if !strings.Contains(log.String(), "too much waits") || !strings.Contains(log.String(), "tried again") {
		t.Error("nobody is told")
	}
	s.db = db
	s.write(ctx)
	at = at.Add(time.Minute)
	if h := store(t, db, &at).Look(ctx, from("a7@partner.example")); h.Sender.Mails != 1 || len(s.waiting) != 0 {
		t.Errorf("%+v, %d keys wait", h, len(s.waiting))
	}
}

// Run writes what it was told before it ends.
func TestRun_WritesAtTheEnd(t *testing.T) {
	t.Parallel()
	db, at := testenv.Postgres(t).DB, time.Now()
	s := store(t, db, &at)
	s.Note(from("anna@partner.example"), false)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err == nil {
		t.Error("it ended by itself")
	}
	if h := store(t, db, &at).Look(context.Background(), from("anna@partner.example")); h.Sender.Mails != 1 {
		t.Errorf("%+v", h)
	}
}

// BenchmarkLook is what a mail waits for: a known sender, and a stranger.
func BenchmarkLook(b *testing.B) {
	db, ctx := testenv.Postgres(b).DB, context.Background()
	s := New(db, slog.New(slog.DiscardHandler))
	b.Run("known", func(b *testing.B) {
		for b.Loop() {
			s.Look(ctx, from("anna@partner.example", "partner.example"))
		}
	})
	b.Run("stranger", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			s.Look(ctx, from(fmt.Sprintf("a%d@p%d.example", i, i), fmt.Sprintf("l%d.example", i)))
		}
	})
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
