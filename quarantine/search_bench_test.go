package quarantine

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
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
	"mailward/policy"
)

//go:embed testdata/fill.sql
var fillText string

// goal is how long a page of any filter may take, its count included.
const goal = 100 * time.Millisecond

// BenchmarkList_AnyFilter fills a database of its own with as many items as
// MAILWARD_BENCH_ITEMS says and measures a page of 100 and its count for each
// filter: `make bench-quarantine`. It fails where the 99th percentile of the two
// together is over the goal.
func BenchmarkList_AnyFilter(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("MAILWARD_BENCH_ITEMS"))
	if err != nil {
		b.Skip("MAILWARD_BENCH_ITEMS does not say how many items")
	}
	db := testenv.Postgres(b)
	start := time.Now()
	fill(b, db.AdminURL, n)
	fmt.Printf("filled in %v\n", time.Since(start).Round(time.Second))
	s, ctx := New(DefaultConfig(), db.DB, nil, nil, slog.New(slog.DiscardHandler)), context.Background()
	const runs = 100
	fmt.Printf("\n%d items\n| filter | rows | counted | p50 | p99 | page alone, p99 | plan |\n|---|---|---|---|---|---|---|\n", n)
	for _, c := range benchFilters(b, s) {
		c.f.Limit = 100
		var both, page []time.Duration
		var p Page
		var counts Counts
		for range runs {
			start := time.Now()
			if p, err = s.List(ctx, c.f); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			page = append(page, time.Since(start))
			start = time.Now()
			if p, counts, err = s.ListAndCount(ctx, c.f); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			both = append(both, time.Since(start))
		}
		slices.Sort(both)
		slices.Sort(page)
		p99 := both[runs*99/100-1]
		fmt.Printf("| %s | %d | %d | %s | %s | %s | %s |\n", c.name, len(p.Items), min(counts.Total, CountCap), ms(both[runs/2]), ms(p99), ms(page[runs*99/100-1]), planOf(b, s, c.f))
		if p99 > goal {
			b.Errorf("%s: p99 is %v, more than %v", c.name, p99, goal)
		}
		if !c.empty && len(p.Items) == 0 {
			b.Errorf("%s: the filter selects nothing, so this measures nothing", c.name)
		}
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

type benchFilter struct {
	name  string
	f     Filter
	empty bool // selects nothing, on purpose
}

func benchFilters(b *testing.B, s *Store) []benchFilter {
	ws, now := []uuid.UUID{policy.DefaultWorkspace}, time.Now()
	mid, err := s.List(context.Background(), Filter{Workspaces: ws, To: now.AddDate(0, 0, -200), Limit: 1})
	if err != nil || len(mid.Items) == 0 {
		b.Fatalf("no item of half a year ago: %v", err)
	}
	it, high, top := mid.Items[0], 29.99, 25.0
	spaces := append([]uuid.UUID{}, ws...)
	rows, err := s.db.Query(context.Background(), "SELECT id FROM workspace WHERE name LIKE 'Space %'")
	if err == nil {
		var more []uuid.UUID
		more, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		spaces = append(spaces, more...)
	}
	if err != nil {
		b.Fatal(err)
	}
	open := []State{Held, Quarantined}
	gone := []State{Denied, Deleted, Expired}
	list := []benchFilter{
		{"all, newest", Filter{}, false},
		{"all, oldest", Filter{Order: Oldest}, false},
		{"all, by score", Filter{Order: ByScore}, false},
		{"all, a page of half a year ago", Filter{Cursor: mid.Next}, false},
		{"30 days", Filter{From: now.AddDate(0, 0, -30)}, false},
		{"a month half a year ago, by score", Filter{From: now.AddDate(0, 0, -230), To: now.AddDate(0, 0, -200), Order: ByScore}, false},
		{"class, frequent", Filter{Classes: []policy.Class{policy.Malware}}, false},
		{"class, rare", Filter{Classes: []policy.Class{policy.Encrypted}}, false},
		{"several classes", Filter{Classes: []policy.Class{policy.DLP, policy.Encrypted, policy.Unscannable}}, false},
		{"states: open", Filter{States: open}, false},
		{"states: gone (most, and none of the newest)", Filter{States: gone}, false},
		{"state, rare (release requested)", Filter{States: []State{ReleaseRequested}}, false},
		{"class and state", Filter{Classes: []policy.Class{policy.DLP}, States: []State{Released}}, false},
		{"class that never has the state", Filter{Classes: []policy.Class{policy.Malware}, States: []State{Denied}}, true},
		{"score, few", Filter{ScoreFrom: &high}, false},
		{"score, range, open", Filter{ScoreFrom: &top, States: open}, false},
		{"outbound", Filter{Direction: policy.Outbound}, false},
		{"sender, frequent", Filter{Sender: "user0@mail0.example"}, false},
		{"sender, rare", Filter{Sender: it.EnvelopeFrom}, false},
		{"sender's domain", Filter{Sender: "@mail7.example"}, false},
		{"part of a sender", Filter{Sender: "user1234"}, false},
		{"recipient", Filter{Recipient: it.Recipients[0].Address}, false},
		{"part of a recipient", Filter{Recipient: "box49"}, false},
		{"recipients' domain", Filter{Domain: "ours7.example"}, false},
		{"part of a subject, frequent", Filter{Subject: "invoice"}, false},
		{"part of a subject, rare", Filter{Subject: it.Subject[len(it.Subject)-12:]}, false},
		{"part of a subject, only a year ago", Filter{Subject: "waits for you"}, false},
		{"hash of the mail", Filter{Hash: it.SHA256}, false},
		{"hash of a part", Filter{Hash: it.Parts[1].SHA256}, false},
		{"message id", Filter{MessageID: it.MessageID}, false},
		{"sign, in every mail", Filter{Symbol: "SPF_FAIL"}, false},
		{"sign, rare", Filter{Symbol: "sign_2999"}, false},
		{"sign, only a year ago", Filter{Symbol: "OLD_CAMPAIGN"}, false},
		{"sign, unknown", Filter{Symbol: "nothing"}, true},
		{"YARA rule", Filter{Rule: "rule_7"}, false},
		{"signature, frequent", Filter{Signature: "Win.Trojan.Agent-0"}, false},
		{"signature, rare", Filter{Signature: "Win.Trojan.Agent-2998"}, false},
		{"link", Filter{URL: "https://kit77.example/login?id=4"}, false},
		{"shape of the subject, only a year ago", Filter{Shape: "parcel # waits for you"}, false},
		{"text, frequent", Filter{Query: "account"}, false},
		{"text, rare", Filter{Query: "agent-2997"}, false},
		{"text, nothing like it", Filter{Query: "zzzyyx"}, true},
		{"text: id of a mail", Filter{Query: it.MailID.String()}, false},
		{"sign in every mail and rare class", Filter{Symbol: "SPF_FAIL", Classes: []policy.Class{policy.Encrypted}}, false},
		{"two frequent ones, never together", Filter{Symbol: "OLD_CAMPAIGN", Subject: "invoice"}, true},
		{"sender, sign and open", Filter{Sender: "@mail0.example", Symbol: "SPF_FAIL", States: open}, false},
		{"sign in every mail, by score", Filter{Symbol: "SPF_FAIL", Order: ByScore}, false},
		{"sign, only a year ago, by score", Filter{Symbol: "OLD_CAMPAIGN", Order: ByScore}, false},
		{"newer than a page (the pill)", Filter{Newer: it.ID, From: now.AddDate(0, 0, -1)}, false},
	}
	for i := range list {
		list[i].f.Workspaces = ws
	}
	return append(list,
		benchFilter{"ten workspaces, all", Filter{Workspaces: spaces}, false},
		benchFilter{"ten workspaces, part of a subject", Filter{Workspaces: spaces, Subject: "figures"}, false},
		benchFilter{"a small workspace, sign of a year ago", Filter{Workspaces: spaces[1:2], Symbol: "OLD_CAMPAIGN"}, true})
}

// fill puts n items in, past the guards: a database of its own, as superuser.
func fill(b testing.TB, adminURL string, n int) {
	b.Helper()
	ctx := context.Background()
	admin, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		b.Fatal(err)
	}
	defer admin.Close(ctx)
	// VACUUM runs in no transaction, so it is not sent with the others.
	text, vacuum, _ := strings.Cut(strings.ReplaceAll(fillText, ":items", strconv.Itoa(n)), "VACUUM")
	for _, sql := range []string{text, "VACUUM" + vacuum} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			b.Fatalf("fill: %v", err)
		}
	}
}

var planNode = regexp.MustCompile(`(Index Only Scan|Index Scan|Bitmap Index Scan|Seq Scan)[^\n]*?(?: using| on) (\S+)`)

// planOf names the indexes that a page uses, each once.
func planOf(b *testing.B, s *Store, f Filter) string {
	ctx := context.Background()
	searches, err := f.searches()
	if err != nil {
		b.Fatal(err)
	}
	one := searches[0]
	sql, args := orderedSQL, one.pageArgs()
	if one.indexed() {
		if found, err := ask(ctx, s.db, walkSQL, append(one.pageArgs(), one.near)); err != nil {
			b.Fatal(err)
		} else if len(found) >= one.limit {
			sql, args = walkSQL, append(args, one.near)
		} else {
			sql, args[0] = gatherSQL, []uuid.UUID{one.workspace}
		}
	}
	rows, err := s.db.Query(ctx, "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY ON) "+sql, args...)
	if err != nil {
		b.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	if os.Getenv("MAILWARD_BENCH_PLANS") != "" {
		fmt.Println(strings.Join(lines, "\n"))
	}
	var names []string
	for _, line := range lines {
		if strings.Contains(line, "never executed") {
			continue
		}
		if m := planNode.FindStringSubmatch(line); m != nil {
			if name := strings.TrimPrefix(m[2], "quarantine_"); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	how := map[string]string{orderedSQL: "in order", walkSQL: "walk", gatherSQL: "gather"}[sql]
	return how + ": " + strings.Join(names, ", ")
}
