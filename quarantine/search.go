package quarantine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// near is how far a search walks through the order before it asks the indexes of
// terms and words. What is more frequent than a page in so many is found by then;
// what is rarer is gathered quickly.
const near = 4000

// search is a filter as the queries take it: in one workspace, and with one state
// or class where several were asked for, so that each has an index in the order
// of the list.
type search struct {
	workspace                         uuid.UUID
	terms                             []string // nil: none
	words, sender, recipient, subject string   // patterns of LIKE
	classes, states                   []string // nil: all
	direction                         string
	scoreFrom, scoreTo                *float64
	from, to                          *time.Time
	newer, id                         *uuid.UUID
	limit, near                       int
	order                             Order
	after                             *place
}

// searches are what a page of a filter comes to.
func (f Filter) searches() (out []search, err error) {
	list, err := f.perWorkspace()
	for _, one := range list {
		out = append(out, one.each()...)
	}
	return out, err
}

// perWorkspace is a filter as one search for each workspace.
func (f Filter) perWorkspace() ([]search, error) {
	s := search{direction: string(f.Direction), scoreFrom: f.ScoreFrom, scoreTo: f.ScoreTo, from: pg.NullTime(f.From), to: pg.NullTime(f.To), limit: f.Limit + 1, order: f.order(),
		near: max(near/max(len(f.Workspaces), 1), near/4)}
	var err error
	if s.after, err = f.place(); err != nil {
		return nil, err
	}
	if f.Newer != uuid.Nil {
		s.newer = &f.Newer
	}
	if err := s.read(f); err != nil {
		return nil, err
	}
	for _, c := range f.Classes {
		s.classes = append(s.classes, string(c))
	}
	for _, st := range f.States {
		s.states = append(s.states, string(st))
	}
	var out []search
	for _, w := range f.Workspaces {
		s.workspace = w
		out = append(out, s)
	}
	return out, nil
}

// each makes a search for each state, or else for each class.
func (s search) each() (out []search) {
	switch {
	case s.indexed():
		return []search{s}
	case len(s.states) > 1:
		for _, v := range s.states {
			one := s
			one.states = []string{v}
			out = append(out, one)
		}
		return out
	case len(s.states) == 0 && len(s.classes) > 1:
		for _, v := range s.classes {
			one := s
			one.classes = []string{v}
			out = append(out, one)
		}
		return out
	}
	return []search{s}
}

// indexed says whether something is asked for that stands in terms or words.
func (s search) indexed() bool {
	return s.terms != nil || s.words+s.sender+s.recipient+s.subject != ""
}

// read takes the texts of a filter apart.
func (s *search) read(f Filter) error {
	for _, t := range []struct{ kind, value string }{
		{"mid:", strings.Trim(f.MessageID, "<> ")}, {"sym:", f.Symbol}, {"yara:", f.Rule}, {"sig:", f.Signature}, {"shape:", f.Shape}, {"to:@", strings.TrimPrefix(f.Domain, "@")},
	} {
		s.term(t.kind, t.value)
	}
	if f.URL != "" {
		l := linkOf(refanged(f.URL))
		if l == "" {
			return fmt.Errorf("%w: no link", ErrBadFilter)
		}
		s.term("url:", l)
	}
	if h := strings.TrimSpace(f.Hash); h != "" {
		if !isHash(h) {
			return fmt.Errorf("%w: a hash is the 64 hex digits of a SHA-256", ErrBadFilter)
		}
		s.term("hash:", h)
	}
	var err1, err2, err3, err4 error
	s.sender, err1 = s.address("from:", f.Sender)
	s.recipient, err2 = s.address("to:", f.Recipient)
	s.subject, err3 = part(f.Subject)
	s.words, err4 = s.free(f.Query)
	return cmp.Or(err1, err2, err3, err4)
}

func (s *search) term(kind, value string) {
	if value = strings.ToLower(strings.TrimSpace(clean(value))); value != "" {
		s.terms = append(s.terms, cutText(kind+value, maxTermBytes))
	}
}

// address makes a term of a whole address or domain, and else a pattern.
func (s *search) address(kind, text string) (string, error) {
	text = strings.Trim(strings.TrimSpace(text), "<>")
	local, domain, ok := cutLast(text, "@")
	if ok && domain != "" && (local == "" || strings.Contains(domain, ".")) && !strings.ContainsAny(text, " *") {
		s.term(kind, text)
		return "", nil
	}
	return part(text)
}

// free is for the one field that takes everything: ids, hashes and message ids by
// their looks, and a part of the words else.
func (s *search) free(text string) (string, error) {
	text = strings.TrimSpace(text)
	if id, err := uuid.Parse(text); err == nil && len(text) == 36 {
		s.id = &id
		return "", nil
	}
	switch {
	case isHash(text):
		s.term("hash:", text)
		return "", nil
	case strings.HasPrefix(text, "<") && strings.HasSuffix(text, ">") && strings.Contains(text, "@"):
		s.term("mid:", strings.Trim(text, "<>"))
		return "", nil
	}
	return part(text)
}

// refanged reads a link as analysts write it: hxxps://evil[.]example.
func refanged(s string) string {
	return strings.NewReplacer("hxxp", "http", "[.]", ".", "[:]", ":", "(.)", ".").Replace(strings.TrimSpace(s))
}

func isHash(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 64
}

// part makes a pattern of a text of which three letters or digits are known: the
// index is one of trigrams, without which every item would be read.
func part(text string) (string, error) {
	text = strings.ToLower(strings.TrimSpace(clean(text)))
	if text == "" {
		return "", nil
	}
	n := 0
	for _, r := range text {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			n++
		}
	}
	if n < 3 {
		return "", fmt.Errorf("%w: a part of a text needs three letters or digits", ErrBadFilter)
	}
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text) + "%", nil
}

// args are the first arguments of all the queries.
func (s search) args() []any {
	return []any{s.workspace, s.terms, s.words, s.sender, s.recipient, s.subject, s.classes, s.states, s.direction,
		s.scoreFrom, s.scoreTo, s.from, s.to, s.newer, s.id}
}

func (s search) pageArgs() []any {
	var at *time.Time
	var id *uuid.UUID
	var score *float32
	if s.after != nil {
		at, id, score = &s.after.at, &s.after.id, &s.after.score
	}
	return append(s.args(), s.limit, string(s.order), at, id, score)
}

// far is how many times as far as [near] a search goes where what it has met so far
// says that a page is found by then.
const far = 8

// run finds a page's places in one workspace. What the list's own indexes know is
// read in order. Terms and words are looked for among the first items; short says
// that those were not enough.
func (s search) run(ctx context.Context, db *pg.DB) (found []place, short bool, err error) {
	if !s.indexed() {
		found, err = ask(ctx, db, orderedSQL, s.pageArgs())
		return found, false, err
	}
	found, err = ask(ctx, db, walkSQL, append(s.pageArgs(), s.near))
	if n := len(found); err == nil && n < s.limit && n*far > s.limit+s.limit/2 {
		found, err = ask(ctx, db, walkSQL, append(s.pageArgs(), s.near*(s.limit+s.limit/2)/n))
	}
	return found, len(found) < s.limit, err
}

// gather finds terms and words by their own indexes, once for all workspaces in
// which they are not frequent enough to be met on the way.
func (s search) gather(ctx context.Context, db *pg.DB, workspaces []uuid.UUID) ([]place, error) {
	args := s.pageArgs()
	args[0] = workspaces
	return ask(ctx, db, gatherSQL, args)
}

func ask(ctx context.Context, db *pg.DB, sql string, args []any) ([]place, error) {
	rows, err := db.Query(ctx, sql, append([]any{pg.PlanAnew}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p place, err error) {
		err = row.Scan(&p.id, &p.at, &p.score)
		return p, err
	})
}

// compare puts places into the order.
func (o Order) compare(a, b place) int {
	n := cmp.Or(a.at.Compare(b.at), bytes.Compare(a.id[:], b.id[:]))
	switch o {
	case Oldest:
		return n
	case ByScore:
		return cmp.Or(cmp.Compare(b.score, a.score), -n)
	}
	return -n
}
