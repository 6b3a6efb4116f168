package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func row(subject string) Row {
	return Row{ID: uuid.Must(uuid.NewV7()), Workspace: policy.DefaultWorkspace, ReceivedAt: time.Now(), ClientIP: "192.0.2.1", EnvelopeFrom: "a@x.example",
		Recipients: []policy.RecipientDecision{{Address: "bob@ours.example", Action: policy.Deliver}}, Subject: subject, SHA256: strings.Repeat("ab", 32),
		Class: policy.Clean, Action: policy.Deliver, RawHeader: []byte("X: \x00\xff\r\n")}
}

func TestDecided_ManyAtOnce(t *testing.T) {
	t.Parallel()
	l := New(testenv.Postgres(t).DB, slog.New(slog.DiscardHandler))
	defer l.Close()
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			// Hostile text must not refuse the batch that it is in.
			r := row(fmt.Sprintf("subject %d \x00 \xff ' \\", i))
			if err := l.Decided(ctx, r); err != nil {
				t.Error(err)
			}
			if err := l.Decided(ctx, r); err != nil { // failed but stored: tried again
				t.Errorf("the same decision again: %v", err)
			}
			l.Outcome(Outcome{MailID: r.ID, Recipient: "bob@ours.example", State: Relayed, Code: 250, Text: "ok\x00", At: time.Now()})
		})
	}
	wg.Wait()
	l.Close()
	seen := map[uuid.UUID]bool{}
	f := Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Limit: 100}
	for {
		p, err := l.List(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Items {
			seen[r.ID] = true
		}
		if f.Cursor = p.Next; p.Next == "" {
			break
		}
	}
	if len(seen) != 300 {
		t.Errorf("%d mails, want 300", len(seen))
	}
	for id := range seen {
		if _, out, err := l.Get(ctx, id); err != nil || len(out) != 1 || out[0].State != Relayed {
			t.Fatalf("outcomes of %s: %+v, %v", id, out, err)
		}
		break
	}
	from := time.Now().Add(-time.Hour)
	b, err := l.Stats(ctx, f.Workspaces, from, from.Add(61*time.Minute), time.Minute)
	if err != nil || len(b) != 61 {
		t.Fatalf("%d buckets, %v", len(b), err)
	}
	total := 0
	for _, x := range b {
		total += x.Delivered
	}
	if total != 300 {
		t.Errorf("stats count %d, want 300", total)
	}
	for q, want := range map[string]int{"subject 299": 1, "bob@OURS": 300, "%": 0, "nobody": 0} {
		p, err := l.List(ctx, Filter{Workspaces: f.Workspaces, Query: q, Limit: 500})
		if err != nil || len(p.Items) != want {
			t.Errorf("search %q: %d, %v; want %d", q, len(p.Items), err, want)
		}
	}
}

func TestDecided_DatabaseRefusesOne(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l := New(db.DB, slog.New(slog.DiscardHandler))
	defer l.Close()
	if _, err := db.Admin(t).Exec(context.Background(), "ALTER TABLE mail ADD CHECK (helo <> 'bad')"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			r := row("x")
			if i == 25 {
				r.Helo = "bad"
			}
			if err := l.Decided(context.Background(), r); (err != nil) != (i == 25) {
				t.Errorf("row %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func TestDecided_DatabaseAway(t *testing.T) {
	t.Parallel()
	db, err := pg.Open(context.Background(), "host=/nowhere user=x dbname=y", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l := New(db, slog.New(slog.DiscardHandler))
	defer l.Close()
	if err := l.Decided(context.Background(), row("x")); err == nil {
		t.Error("a decision was taken for written")
	}
}

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}

// TestDecided_EveryColumn: what goes in comes out as it was.
func TestDecided_EveryColumn(t *testing.T) {
	t.Parallel()
	l := New(testenv.Postgres(t).DB, slog.New(slog.DiscardHandler))
	defer l.Close()
	full := row("Grüße")
	full.ReceivedAt = full.ReceivedAt.UTC().Truncate(time.Microsecond)
	full.Direction, full.Node, full.ClientIP, full.Helo, full.TLS = policy.Outbound, "n1", "2001:db8::1", "mx.x.example", "TLS 1.3"
	full.HeaderFrom, full.MessageID, full.Size, full.Class, full.Action, full.Score, full.ScanMS = "A <a@x.example>", "1@x", 4711, policy.Malware, policy.Quarantine, 7.5, 42
	full.Reasons, full.LinkDomains = []string{"one", "two"}, []string{"a.example", "b.example"}
	full.Findings = []policy.Finding{{Engine: "yara", Name: "X", Class: policy.Malware, Score: 7.5, Reason: "one"}}
	full.Engines = []policy.EngineAnswer{{Engine: "yara", Answered: true}}
	full.Parts = []policy.Part{{Path: "1", Name: "a.txt", Size: 3}}
	full.Auth = json.RawMessage(`{"spf": {"result": "pass"}}`)
	full.HeaderEdits = []message.Range{{Offset: 3, Length: 9}}
	bare := Row{ID: uuid.Must(uuid.NewV7()), Workspace: policy.DefaultWorkspace, ReceivedAt: full.ReceivedAt, SHA256: strings.Repeat("00", 32), Class: policy.Clean, Action: policy.Deliver}
	c, err := full.args()
	d, err2 := bare.args()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if err := l.writeAll([]write{{mail: c}, {outcome: Outcome{ID: uuid.Must(uuid.NewV7()), MailID: full.ID, Recipient: "bob@ours.example", State: Refused, NextHop: "h:25", Code: 550, Text: "no", At: full.ReceivedAt}}, {mail: d}}); err != nil {
		t.Fatal(err)
	}
	got, out, err := l.Get(t.Context(), full.ID)
	if err != nil {
		t.Fatal(err)
	}
	got.ReceivedAt = got.ReceivedAt.UTC()
	if err := l.db.QueryRow(t.Context(), "SELECT header_edits FROM mail WHERE id = $1", full.ID).Scan(&got.HeaderEdits); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, full) {
		t.Errorf("got  %+v\nwant %+v", got, full)
	}
	if len(out) != 1 || out[0].State != Refused || out[0].Code != 550 || out[0].NextHop != "h:25" || out[0].Text != "no" || !out[0].At.Equal(full.ReceivedAt) {
		t.Errorf("outcomes %+v", out)
	}
	if got, _, err = l.Get(t.Context(), bare.ID); err != nil || got.ClientIP != "" || len(got.LinkDomains) != 0 || got.Direction != policy.Inbound || string(got.Auth) != "{}" || len(got.Reasons) != 0 {
		t.Errorf("bare: %+v, %v", got, err)
	}
}
