package audit

import (
	"context"
	"embed"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/testenv"
)

//go:embed testdata/fill*.sql
var fillFiles embed.FS

// goal is how long a page of any filter may take.
const goal = 100 * time.Millisecond

// BenchmarkList_AnyFilter fills a database of its own with as many events as
// MAILWARD_BENCH_EVENTS says, spread over 13 months, and measures a page of each
// filter: `make bench-audit`. It fails where the 99th percentile is over the goal.
func BenchmarkList_AnyFilter(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("MAILWARD_BENCH_EVENTS"))
	if err != nil {
		b.Skip("MAILWARD_BENCH_EVENTS does not say how many events")
	}
	db := testenv.Postgres(b)
	fill(b, db.AdminURL, n)
	l, ctx := newLog(db), context.Background()
	const runs = 50
	fmt.Printf("\n%d events\n| filter | rows | p50 | p99 | first | plan |\n|---|---|---|---|---|---|\n", n)
	for _, c := range benchFilters(b, db, n) {
		var times []time.Duration
		rows := 0
		for range runs {
			start := time.Now()
			p, err := l.List(ctx, c.f)
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			times, rows = append(times, time.Since(start)), len(p.Items)
		}
		first := times[0]
		slices.Sort(times)
		p50, p99 := times[runs/2], times[runs*99/100-1]
		fmt.Printf("| %s | %d | %s | %s | %s | %s |\n", c.name, rows, ms(p50), ms(p99), ms(first), planOf(b, l, c.f))
		if p99 > goal {
			b.Errorf("%s: p99 is %v, more than %v", c.name, p99, goal)
		}
		if !c.empty && rows == 0 {
			b.Errorf("%s: the filter selects nothing, so this measures nothing", c.name)
		}
	}
}

// TestFill keeps what the benchmark fills its database with in step with the
// migrations: the benchmark itself runs too seldom to tell.
func TestFill(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	fill(t, db.AdminURL, 3000)
	l := newLog(db)
	for _, c := range benchFilters(t, db, 3000) {
		if _, err := l.List(t.Context(), c.f); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

type benchFilter struct {
	name  string
	f     Filter
	empty bool // selects nothing, on purpose
}

func benchFilters(b testing.TB, db *testenv.DB, n int) []benchFilter {
	var ws, session, actor uuid.UUID
	var item string
	admin := db.Admin(b)
	err := admin.QueryRow(context.Background(), `SELECT workspace_id, (convert_from(bytes, 'UTF8')::jsonb #>> '{auth,session_id}')::uuid, actor_id::uuid,
		(SELECT target_ids[1] FROM audit.event WHERE action = 'quarantine.view_body' ORDER BY id LIMIT 1)
		FROM audit.event WHERE action = 'policy.update' ORDER BY id DESC LIMIT 1`).Scan(&ws, &session, &actor, &item)
	if err != nil {
		b.Fatal(err)
	}
	looking := []string{PageView, APICall}
	now := time.Now()
	week := now.Add(-7 * 24 * time.Hour)
	acts := Filter{Skip: looking}
	with := func(f Filter, change func(*Filter)) Filter { change(&f); return f }
	p, err := newLog(db).List(context.Background(), Filter{From: now.AddDate(0, -6, 0), To: now.AddDate(0, -6, 2), Limit: 1})
	if err != nil || p.Next == "" {
		b.Fatalf("no event of half a year ago: %v", err)
	}
	return []benchFilter{
		{"first page: acts of 7 days", with(acts, func(f *Filter) { f.From = week }), false},
		{"all, whole time", Filter{}, false},
		{"all, a page of half a year ago", Filter{Cursor: p.Next}, false},
		{"action, frequent (auth.login)", Filter{Action: "auth.login"}, false},
		{"action, rare (role.create)", Filter{Action: "role.create"}, false},
		{"action, only a year ago (domain.create)", Filter{Action: "domain.create"}, false},
		{"actions by prefix (quarantine.release.*)", Filter{Action: "quarantine.release.*"}, false},
		{"several actions", Filter{Action: "quarantine.view_body,quarantine.raw_download,quarantine.preview"}, false},
		{"person by address", Filter{Actor: "user7@ours.example"}, false},
		{"person by address, acts of a quarter", Filter{Actor: "user7@ours.example", Action: "policy.*", From: now.AddDate(0, -6, 0), To: now.AddDate(0, -3, 0)}, false},
		{"person by id, 7 days", Filter{Actor: actor.String(), From: week}, false},
		{"type of actor (database)", Filter{Actor: "database"}, false},
		{"outcome refused", Filter{Outcome: "refused"}, false},
		{"outcome failure, acts", with(acts, func(f *Filter) { f.Outcome = "failure" }), false},
		{"object", Filter{Target: item}, false},
		{"workspace", Filter{Workspace: ws}, false},
		{"workspaces of a person, acts", Filter{Workspaces: []uuid.UUID{ws}, NoInstallation: true, Skip: looking}, false},
		{"IP address", Filter{IP: "192.0.2.17"}, false},
		{"application, frequent", Filter{Application: "web-ui"}, false},
		{"application, rare (psql)", Filter{Application: "psql"}, false},
		{"route", Filter{Route: "/api/v1/route17"}, false},
		{"way of signing in (oidc)", Filter{Method: "oidc"}, false},
		{"provider, rare", Filter{Provider: "old-idp"}, false},
		{"releases without approval", Filter{Action: "quarantine.release.*", Approval: "none"}, false},
		{"around a session", Filter{Link: session.String()}, false},
		{"around an object", Filter{Link: item}, false},
		{"text: part of an action", Filter{Query: "release"}, false},
		{"text: address", Filter{Query: "user7@ours.example"}, false},
		{"text: address of a mailbox that is only a target", Filter{Query: "box123@ours.example"}, false},
		{"text: IP address", Filter{Query: "192.0.2.17"}, false},
		{"text: id of an object", Filter{Query: item}, false},
		{"text: nothing like it", Filter{Query: "zzzz"}, true},
		{"person and outcome and IP", Filter{Actor: "user7@ours.example", Outcome: "refused", IP: "192.0.2.17"}, n < 2_000_000},
		{"person and an action that they never did", Filter{Actor: "user7@ours.example", Action: "audit.reanchor"}, true},
	}
}

// fill puts n events in, past the guards: a database of its own, as superuser.
func fill(b testing.TB, adminURL string, n int) {
	b.Helper()
	ctx := context.Background()
	run := func(name string) {
		start := time.Now()
		text, err := fillFiles.ReadFile("testdata/" + name + ".sql")
		if err != nil {
			b.Fatal(err)
		}
		admin, err := pgx.Connect(ctx, adminURL)
		if err != nil {
			b.Fatal(err)
		}
		defer admin.Close(ctx)
		if _, err := admin.Exec(ctx, strings.ReplaceAll(string(text), ":events", strconv.Itoa(n))); err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		fmt.Printf("%s: %v\n", name, time.Since(start).Round(time.Second))
	}
	run("fill_open")
	run("fill_events")
	run("fill_close")
}

var planNode = regexp.MustCompile(`(Index Only Scan|Index Scan|Bitmap Index Scan|Seq Scan)[^\n]*?(?: using| on) (\S+)`)

// planOf names the indexes that the plan uses, each once and without the
// partition's own name.
func planOf(b *testing.B, l *Log, f Filter) string {
	ctx := context.Background()
	f.Limit = 50
	searches, err := l.searches(ctx, f)
	if err != nil {
		b.Fatal(err)
	}
	var lines []string
	for _, one := range searches {
		if one.value != nil {
			if err := one.holding(ctx, l, 4*one.limit); err != nil {
				b.Fatal(err)
			}
		}
		action := any(nil)
		if len(one.actions) > 0 {
			action = one.actions[0]
		}
		rows, err := l.db.Query(ctx, "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY ON) "+listSQL, one.args(action)...)
		if err != nil {
			b.Fatal(err)
		}
		more, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			b.Fatal(err)
		}
		lines = append(lines, more...)
	}
	if os.Getenv("MAILWARD_BENCH_PLANS") != "" {
		fmt.Println(strings.Join(lines, "\n"))
	}
	month := regexp.MustCompile(`event_(sec_400d|sec_3y|incident)_(\d{4}_\d\d|default)`)
	var names []string
	for _, line := range lines {
		if strings.Contains(line, "never executed") {
			continue
		}
		m := planNode.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := m[1] + " " + month.ReplaceAllString(m[2], "event")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
