package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	netmail "net/mail"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/policy"
	"mailward/scanner"
	"mailward/scanner/content"
	"mailward/scanner/dlp"
)

// reader is an engine that reads mails of one plain text, as the sidecar reads all.
type reader struct{}

func (reader) Name() string { return "reader" }

func (reader) Check(context.Context) (scanner.Info, error) { return scanner.Info{}, nil }

func (reader) Scan(_ context.Context, job scanner.Job) (scanner.Answer, error) {
	m, err := netmail.ReadMessage(io.NewSectionReader(job.Spool.File(), 0, job.Spool.Size()))
	if err != nil {
		return scanner.Answer{}, err
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return scanner.Answer{}, err
	}
	subject := m.Header.Get("Subject")
	return scanner.Answer{
		Header:  scanner.HeaderSummary{Subject: subject},
		Parts:   []policy.Part{{Path: "1", Name: m.Header.Get("X-Name")}},
		Content: &content.Content{Subject: subject, Texts: []content.Text{{Part: "1", Kind: "plain", Text: string(body)}}},
	}, nil
}

// TestDLP_NothingHoldsTheNumber sends card numbers out and then looks for them
// in everything that the database has.
func TestDLP_NothingHoldsTheNumber(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	sets := dlp.NewStore(f.db.DB, log)
	fatal(t, sets.Load(context.Background()))
	s, err := scanner.New(scanner.DefaultConfig(), log, reader{})
	fatal(t, err)
	f.srv.deps.Scanner = s.WithJudges(dlp.NewJudge(sets))
	f.srv.deps.Log = log
	f.outbound(nil)

	send := func(from, to, subject, body string) {
		t.Helper()
		f.wantReply(f.dial().send(from, []string{to}, "From: "+from+"\r\nSubject: "+subject+"\r\nThread-Topic: "+subject+"\r\nX-Name: list.txt\r\n\r\n"+body+"\r\n"), 250)
	}
	send("bob@ours.example", "x@world.example", "Kreditkarte 4111 1111 1111 1111", "one more: 5555555555554444, visa")
	send("bob@ours.example", "x@world.example", "Rechnung", "IBAN DE89 3704 0044 0532 0130 00, Summe 4711 EUR")
	send("x@world.example", "bob@ours.example", "Bestellung", "Kreditkarte 4242424242424242")
	if n := len(f.wantHop(2)); n != 2 {
		t.Errorf("%d mails went on", n)
	}
	f.wait("held mail", func() bool {
		return f.count("SELECT count(*) FROM quarantine_item WHERE class = 'dlp' AND direction = 'outbound'") == 1 && f.count("SELECT count(*) FROM mail") == 3
	})
	var item uuid.UUID
	var subject, findings string
	fatal(t, f.db.Pool.QueryRow(context.Background(), "SELECT id, subject, findings::text FROM quarantine_item").Scan(&item, &subject, &findings))
	if subject != "Kreditkarte 4111 **** **** **11" || !strings.Contains(findings, "4111 **** **** **11") || !strings.Contains(findings, "5555**********44") {
		t.Errorf("subject %q, findings %s", subject, findings)
	}
	for _, raw := range []string{"4111 1111 1111 1111", "4111111111111111", "5555555555554444"} {
		for _, where := range f.search(raw) {
			t.Errorf("%s stands in %s", raw, where)
		}
		if strings.Contains(logged.String(), raw) {
			t.Errorf("%s was logged", raw)
		}
	}
	// The search does find what is there.
	if len(f.search("bob@ours.example")) == 0 || len(f.search("Thread-Topic: Rechnung")) == 0 {
		t.Error("the search finds nothing at all")
	}
}

// search finds a text in every column of every table, bytes too.
func (f *fixture) search(text string) (where []string) {
	f.t.Helper()
	ctx, db := context.Background(), f.db.Admin(f.t)
	rows, err := db.Query(ctx, `SELECT format('%I.%I', table_schema, table_name), quote_ident(column_name), data_type FROM information_schema.columns
		JOIN information_schema.tables USING (table_schema, table_name)
		WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')`)
	fatal(f.t, err)
	type column struct{ table, name, kind string }
	var list []column
	for rows.Next() {
		var c column
		fatal(f.t, rows.Scan(&c.table, &c.name, &c.kind))
		list = append(list, c)
	}
	fatal(f.t, rows.Err())
	for _, c := range list {
		expr := c.name + "::text"
		if c.kind == "bytea" {
			expr = "encode(" + c.name + ", 'escape')"
		}
		var n int
		fatal(f.t, db.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE position($1 IN %s) > 0", c.table, expr), text).Scan(&n))
		if n > 0 {
			where = append(where, c.table+"."+c.name)
		}
	}
	return where
}
