package quarantine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
)

// sample holds a mail that differs from others in everything a filter asks for.
func (f *fixture) sample(t *testing.T, n int, change func(*Hold)) Item {
	t.Helper()
	h := f.request(t, fmt.Sprintf("body %d", n), fmt.Sprintf("box%d@ours%d.example", n, n))
	h.Envelope.From = fmt.Sprintf("bounce%d@list.evil%d.example", n, n)
	h.Envelope.ReceivedAt = time.Now().Add(-time.Duration(n) * time.Hour).Truncate(time.Microsecond)
	h.Class, h.Score = policy.Classes()[1+n%4], float64(n)+0.5
	h.Links = []string{fmt.Sprintf("https://Kit%d.example/Login/?id=%d", n, n)}
	h.Report = policy.Report{Subject: fmt.Sprintf("Invoice number%d of 47%d", n, n), HeaderFrom: fmt.Sprintf(`"Billing %d" <Boss%d@Evil%d.example>`, n, n, n), MessageID: fmt.Sprintf("<m%d@Evil.example>", n),
		Parts: []policy.Part{{Path: "1", SHA256: strings.Repeat(fmt.Sprintf("%02x", n), 32)}},
		Findings: []policy.Finding{{Engine: "phishing", Name: fmt.Sprintf("SIGN_%d", n)}, {Engine: "yara", Name: fmt.Sprintf("Rule_%d", n), Class: policy.Malware},
			{Engine: "clamav", Name: fmt.Sprintf("Win.Trojan.A-%d", n), Class: policy.Malware}}}
	if change != nil {
		change(&h)
	}
	id, err := f.Hold(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	it, err := f.Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func TestList_EachFilterFindsItsItem(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	other := uuid.Must(uuid.NewV7())
	if _, err := f.db.Admin(t).Exec(ctx, "INSERT INTO workspace (id, name) VALUES ($1, 'Other')", other); err != nil {
		t.Fatal(err)
	}
	var items []Item
	for n := range 8 {
		items = append(items, f.sample(t, n, func(h *Hold) {
			if n == 3 {
				h.Direction = policy.Outbound
			}
		}))
	}
	// The same mail in another workspace is never found.
	for n := range 8 {
		f.sample(t, n, func(h *Hold) { h.Workspace = other })
	}
	if _, err := f.Delete(ctx, f.users[0], nil, items[5].ID, "not needed"); err != nil {
		t.Fatal(err)
	}
	low, high := 3.0, 4.9
	for name, c := range map[string]struct {
		f    Filter
		want []int
	}{
		"nothing asked":            {Filter{}, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		"oldest first":             {Filter{Order: Oldest}, []int{7, 6, 5, 4, 3, 2, 1, 0}},
		"by score":                 {Filter{Order: ByScore}, []int{7, 6, 5, 4, 3, 2, 1, 0}},
		"header address":           {Filter{Sender: "boss2@evil2.example"}, []int{2}},
		"envelope address":         {Filter{Sender: "<Bounce2@list.evil2.example>"}, []int{2}},
		"domain of the sender":     {Filter{Sender: "@evil4.example"}, []int{4}}, // and of list.evil4.example
		"domain below":             {Filter{Sender: "@list.evil4.example"}, []int{4}},
		"part of the sender":       {Filter{Sender: "billing 6"}, []int{6}},
		"part that others have":    {Filter{Sender: "invoice"}, nil},
		"recipient":                {Filter{Recipient: "BOX1@ours1.example"}, []int{1}},
		"part of the recipient":    {Filter{Recipient: "x1@ou"}, []int{1}},
		"domain of recipients":     {Filter{Domain: "ours2.example"}, []int{2}},
		"the same as a recipient":  {Filter{Recipient: "@ours2.example"}, []int{2}},
		"part of the subject":      {Filter{Subject: "NUMBER3"}, []int{3}},
		"subject is no sender":     {Filter{Subject: "billing"}, nil},
		"hash of the mail":         {Filter{Hash: items[4].SHA256}, []int{4}},
		"hash of a part":           {Filter{Hash: strings.ToUpper(strings.Repeat("06", 32))}, []int{6}},
		"message id":               {Filter{MessageID: "m6@evil.example"}, []int{6}},
		"sign":                     {Filter{Symbol: "sign_1"}, []int{1}},
		"sign is no rule":          {Filter{Rule: "SIGN_1"}, nil},
		"rule":                     {Filter{Rule: "Rule_2"}, []int{2}},
		"signature":                {Filter{Signature: "win.trojan.a-3"}, []int{3}},
		"link":                     {Filter{URL: "hxxp://kit7[.]example/login?id=other"}, []int{7}},
		"shape":                    {Filter{Shape: Shape("Re: invoice NUMBER9 of 999")}, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		"score from":               {Filter{ScoreFrom: &low}, []int{3, 4, 5, 6, 7}},
		"score between":            {Filter{ScoreFrom: &low, ScoreTo: &high}, []int{3, 4}},
		"class":                    {Filter{Classes: []policy.Class{items[1].Class}}, []int{1, 5}},
		"classes":                  {Filter{Classes: []policy.Class{items[1].Class, items[2].Class}}, []int{1, 2, 5, 6}},
		"state":                    {Filter{States: []State{Deleted}}, []int{5}},
		"states":                   {Filter{States: []State{Deleted, Held, Denied}}, []int{5}},
		"class and state":          {Filter{Classes: []policy.Class{items[5].Class}, States: []State{Quarantined}}, []int{1}},
		"outbound":                 {Filter{Direction: policy.Outbound}, []int{3}},
		"from":                     {Filter{From: items[2].ReceivedAt}, []int{0, 1, 2}},
		"to":                       {Filter{To: items[5].ReceivedAt}, []int{6, 7}},
		"newer":                    {Filter{Newer: items[5].ID}, []int{6, 7}},
		"text":                     {Filter{Query: "number4"}, []int{4}},
		"text: finding":            {Filter{Query: "trojan.a-4"}, []int{4}},
		"text: id":                 {Filter{Query: items[2].ID.String()}, []int{2}},
		"text: mail id":            {Filter{Query: items[2].MailID.String()}, []int{2}},
		"text: hash":               {Filter{Query: items[2].SHA256}, []int{2}},
		"text: message id":         {Filter{Query: "<M2@evil.example>"}, []int{2}},
		"text: wildcards are text": {Filter{Query: "num%4"}, nil},
		"two of one item":          {Filter{Symbol: "SIGN_1", Rule: "rule_1", Subject: "invoice"}, []int{1}},
		"two of two items":         {Filter{Symbol: "SIGN_1", Rule: "rule_2"}, nil},
		"link and class":           {Filter{URL: "kit1.example/login", Classes: []policy.Class{items[2].Class}}, nil},
	} {
		c.f.Workspaces = []uuid.UUID{policy.DefaultWorkspace}
		p, err := f.List(ctx, c.f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var want []uuid.UUID
		for _, n := range c.want {
			want = append(want, items[n].ID)
		}
		if got := ids(p.Items); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if n, err := f.Count(ctx, c.f); err != nil || n.Total != len(want) {
			t.Errorf("%s: counted %d (%v), want %d", name, n.Total, err, len(want))
		}
	}
}

func ids(items []Item) (out []uuid.UUID) {
	for _, i := range items {
		out = append(out, i.ID)
	}
	return out
}

func TestList_RefusesWhatItCannotSearchFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t, SingleOperator)
	for _, c := range []Filter{{Query: "ab"}, {Sender: "%_%"}, {Subject: "-- --"}, {Hash: "abc"}, {URL: "nothing"}} {
		c.Workspaces = []uuid.UUID{policy.DefaultWorkspace}
		if _, err := f.List(context.Background(), c); !errors.Is(err, ErrBadFilter) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	p := place{id: uuid.Must(uuid.NewV7()), at: time.Now()}
	for _, c := range []string{"x", "bm9wZQ", Filter{Order: Oldest}.cursor(p)} {
		if _, err := f.List(context.Background(), Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}, Cursor: c}); !errors.Is(err, ErrBadCursor) {
			t.Errorf("cursor %q: %v", c, err)
		}
	}
	if p, err := f.List(context.Background(), Filter{}); err != nil || len(p.Items) != 0 {
		t.Errorf("without workspaces: %d items, %v", len(p.Items), err)
	}
}

// TestList_PagesHaveEachItemOnce goes through every order, with scores and times
// that are the same, over two workspaces, and with items coming in meanwhile.
func TestList_PagesHaveEachItemOnce(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	other := uuid.Must(uuid.NewV7())
	if _, err := f.db.Admin(t).Exec(ctx, "INSERT INTO workspace (id, name) VALUES ($1, 'Other')", other); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	for n := range 23 {
		f.sample(t, n, func(h *Hold) {
			h.Envelope.ReceivedAt, h.Score = at.Add(time.Duration(n/5)*time.Minute), float64(n%3)+0.1
			if n%4 == 0 {
				h.Workspace = other
			}
		})
	}
	for _, order := range Orders() {
		for name, base := range map[string]Filter{"all": {}, "term": {Shape: Shape("Invoice number1 of 1")}, "words": {Subject: "invoice"}, "classes": {Classes: policy.Classes()}} {
			base.Workspaces, base.Order, base.Limit = []uuid.UUID{policy.DefaultWorkspace, other}, order, 4
			seen := map[uuid.UUID]bool{}
			var before *Item
			for page := 0; page == 0 || base.Cursor != ""; page++ {
				p, err := f.List(ctx, base)
				if err != nil {
					t.Fatalf("%s, %s: %v", order, name, err)
				}
				for _, i := range p.Items {
					if seen[i.ID] {
						t.Fatalf("%s, %s: an item comes twice", order, name)
					}
					if before != nil && order.compare(placeOf(*before), placeOf(i)) > 0 {
						t.Errorf("%s, %s: not in order", order, name)
					}
					seen[i.ID], before = true, &i
				}
				base.Cursor = p.Next
			}
			if len(seen) != 23 {
				t.Errorf("%s, %s: %d items", order, name, len(seen))
			}
		}
	}
}

func placeOf(i Item) place { return place{id: i.ID, at: i.ReceivedAt, score: float32(i.Score)} }

// TestIndex_OldItemsAreFound is for items that were held before there were terms.
func TestIndex_OldItemsAreFound(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	it := f.sample(t, 1, nil)
	if _, err := f.db.Admin(t).Exec(ctx, "UPDATE quarantine_item SET terms = NULL, words = NULL"); err != nil {
		t.Fatal(err)
	}
	events := f.count(t, "SELECT count(*) FROM audit.event")
	find := func(c Filter) int {
		c.Workspaces = []uuid.UUID{policy.DefaultWorkspace}
		p, err := f.List(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		return len(p.Items)
	}
	if find(Filter{Symbol: "SIGN_1"}) != 0 || find(Filter{}) != 1 {
		t.Error("found without terms, or not shown")
	}
	for want := range []int{1, 0} {
		if n, err := f.Index(ctx); err != nil || n != 1-want {
			t.Fatalf("indexed %d, %v", n, err)
		}
	}
	if find(Filter{Symbol: "SIGN_1"}) != 1 || find(Filter{Recipient: "box1@ours1.example"}) != 1 || find(Filter{Query: "billing 1"}) != 1 || find(Filter{Hash: it.SHA256}) != 1 {
		t.Error("not found after it was indexed")
	}
	if n := f.count(t, "SELECT count(*) FROM audit.event"); n != events {
		t.Error("what is only an index went on record")
	}
}

// TestList_FindsLaterFindings is for what the sandbox says after the mail was held.
func TestList_FindsLaterFindings(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	it := f.sample(t, 1, nil)
	err := f.db.Act(ctx, f.users[0], func(ctx context.Context, tx pgx.Tx) error {
		return f.addSandboxFindings(ctx, tx, it.ID, SandboxOutcome{Class: policy.Malware, Findings: []policy.Finding{{Engine: "cape", Name: "Emotet"}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Filter{{Symbol: "emotet"}, {Query: "EMOTET"}, {Symbol: "SIGN_1"}} {
		c.Workspaces = []uuid.UUID{policy.DefaultWorkspace}
		if p, err := f.List(ctx, c); err != nil || len(p.Items) != 1 {
			t.Errorf("%+v: %d, %v", c, len(p.Items), err)
		}
	}
}

func TestShape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Invoice 4711 for Bob":         "invoice # for bob",
		"RE: Fwd: invoice  no. 12-b, ": "invoice no #",
		"AW[2]: Ihre Rechnung RE-2026": "ihre rechnung #",
		"12345 67":                     "",
		"Hi!":                          "",
		"":                             "",
		"Срочно: счёт №42":             "срочно счёт #",
	} {
		if got := Shape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if Shape(strings.Repeat("long ", 100)+"a") == Shape(strings.Repeat("long ", 100)+"b") {
		t.Error("long subjects that differ have the same shape")
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	got := Links([]string{"HTTPS://Kit.example/Login/?a=1#x", "http://kit.example/login", "mailto:a@b.example", "javascript:alert(1)", "evil.example", "http://[::1", "http://x", "  http://u:p@two.example:8080/a b "})
	if want := []string{"kit.example/login", "evil.example", "two.example/a b"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSimilar(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t, SingleOperator), context.Background()
	other := uuid.Must(uuid.NewV7())
	if _, err := f.db.Admin(t).Exec(ctx, "INSERT INTO workspace (id, name) VALUES ($1, 'Other')", other); err != nil {
		t.Fatal(err)
	}
	it := f.sample(t, 1, func(h *Hold) { h.Class = policy.Malware })
	f.sample(t, 2, func(h *Hold) { h.Class, h.Links = policy.Malware, []string{"http://kit1.example/login"} }) // the same shape and link
	f.sample(t, 3, func(h *Hold) { h.Report.HeaderFrom, h.Report.Subject = it.HeaderFrom, "Something else" })
	f.sample(t, 1, func(h *Hold) { h.Workspace = other })
	got, err := f.Similar(ctx, it, []uuid.UUID{policy.DefaultWorkspace})
	if err != nil {
		t.Fatal(err)
	}
	want := []Likeness{{"url", "kit1.example/login", 2}, {"sender", "Boss1@Evil1.example", 2}, {"shape", "invoice # of #", 2}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	// Each leads to a filter that finds as many.
	for _, l := range got {
		c := Filter{Workspaces: []uuid.UUID{policy.DefaultWorkspace}}
		map[string]func(){"url": func() { c.URL = l.Value }, "sender": func() { c.Sender = l.Value }, "shape": func() { c.Shape = l.Value }}[l.Field]()
		if p, err := f.List(ctx, c); err != nil || len(p.Items) != l.Count || l.Others() != 1 {
			t.Errorf("%+v: %d items, %v", l, len(p.Items), err)
		}
	}
}

// TestFilters_AreOne: a page and its counts select by the same words. The three
// queries differ in how they come to their rows, so the planner needs each whole.
func TestFilters_AreOne(t *testing.T) {
	t.Parallel()
	conditions := func(name string, most int) (out []string) {
		for line := range strings.Lines(pg.Query(queryFiles, name)) {
			line = strings.TrimSpace(line)
			if m := regexp.MustCompile(`^AND \(.*?\$(\d+)`).FindStringSubmatch(line); m != nil {
				if n, _ := strconv.Atoi(m[1]); n <= most {
					out = append(out, line)
				}
			}
		}
		return out
	}
	page := conditions("ordered", 20)
	if len(page) < 17 || !slices.Equal(page, conditions("gather", 20)) {
		t.Errorf("gather.sql selects otherwise than ordered.sql: %d conditions", len(page))
	}
	if !slices.Equal(conditions("ordered", 15), conditions("counts", 15)) {
		t.Error("counts.sql counts otherwise than ordered.sql selects")
	}
}
