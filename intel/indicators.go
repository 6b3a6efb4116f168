package intel

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/policy"
)

const (
	putMost     = 5_000 // rows of one statement
	maxText     = 500   // bytes of a note or reference
	defaultLife = 30 * 24 * time.Hour
	lifeMost    = 366 * 24 * time.Hour
)

// counts says what storing indicators has changed.
type counts struct{ added, updated, gone int64 }

// put stores indicators of one source in a transaction. A repeated value counts
// once. Rows are written in the order of their keys, so that two writers wait for
// each other and do not lock each other out.
func (s *Store) put(ctx context.Context, tx pgx.Tx, source string, list []Indicator) (n counts, err error) {
	at := make(map[int64]int, len(list))
	for i := range list {
		if k := list[i].key(); at[k] == 0 {
			at[k] = i + 1
		}
	}
	for part := range slices.Chunk(slices.Sorted(maps.Keys(at)), putMost) {
		b := &batch{}
		for _, k := range part {
			b.add(k, list[at[k]-1])
		}
		if err := b.put(ctx, tx, source, &n); err != nil {
			return n, err
		}
	}
	return n, nil
}

// batch is indicators by column.
type batch struct {
	keys                   []int64
	kinds, values, classes []string
	confidences            []int16
	first, last, expire    []time.Time
	notes, references      []string
	origins                []string
}

func (b *batch) add(key int64, i Indicator) {
	b.keys, b.kinds, b.values, b.classes = append(b.keys, key), append(b.kinds, string(i.Kind)), append(b.values, i.Value), append(b.classes, string(i.Class))
	b.confidences, b.first, b.last, b.expire = append(b.confidences, int16(i.Confidence)), append(b.first, i.FirstSeen), append(b.last, i.LastSeen), append(b.expire, i.ExpiresAt)
	b.notes, b.references = append(b.notes, plainText(i.Note)), append(b.references, plainText(i.Reference))
	origin := strings.ReplaceAll(strings.ToValidUTF8(i.origin, ""), "\x00", "")
	if origin == i.Value || len(origin) > maxValue {
		origin = ""
	}
	b.origins = append(b.origins, origin)
}

// plainText is what a stranger wrote, cut and without what a database refuses.
func plainText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return strings.TrimSpace(s)
}

func (b *batch) put(ctx context.Context, tx pgx.Tx, source string, n *counts) error {
	rows, err := tx.Query(ctx, putSQL, source, b.keys, b.kinds, b.values, b.classes, b.confidences, b.first, b.last, b.expire, b.notes, b.references, b.origins)
	if err != nil {
		return fmt.Errorf("store indicators of %s: %w", source, err)
	}
	var isNew bool
	_, err = pgx.ForEachRow(rows, []any{&isNew}, func() error {
		if isNew {
			n.added++
		} else {
			n.updated++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store indicators of %s: %w", source, err)
	}
	return nil
}

// retract takes away values that a source no longer calls bad.
func (s *Store) retract(ctx context.Context, tx pgx.Tx, source string, values []Value, n *counts) error {
	if len(values) == 0 {
		return nil
	}
	tag, err := tx.Exec(ctx, retractSQL, source, keysOf(values))
	if err != nil {
		return fmt.Errorf("take back indicators of %s: %w", source, err)
	}
	n.gone += tag.RowsAffected()
	return nil
}

func keysOf(values []Value) []int64 {
	keys := make([]int64, len(values))
	for i, v := range values {
		keys[i] = v.key()
	}
	return keys
}

// Filter selects indicators. Empty fields select all.
type Filter struct {
	Value  string // all of a value, in any spelling; names and pages are looked for with what is above them
	Kind   string
	Source string
	Class  string
	Cursor string
	Limit  int // default 50, at most 500
}

// List reads one page of indicators that have not expired, in the order of their
// keys, which is that of nothing else.
func (s *Store) List(ctx context.Context, f Filter) (list []Indicator, next string, err error) {
	var keys []int64
	if q := strings.TrimSpace(f.Value); q != "" {
		keys = []int64{}
		for _, v := range related(q) {
			keys = append(keys, v.key())
		}
	}
	var cursor *int64
	source := ""
	if f.Cursor != "" {
		number, rest, ok := strings.Cut(f.Cursor, ".")
		n, err := strconv.ParseInt(number, 10, 64)
		if !ok || err != nil || strings.ContainsRune(rest, 0) {
			return nil, "", ErrBadCursor
		}
		cursor, source = &n, rest
	}
	limit := min(cmp.Or(max(f.Limit, 0), 50), 500)
	rows, err := s.db.Query(ctx, listSQL, pg.PlanAnew, keys, f.Kind, f.Source, f.Class, s.now(), cursor, source, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list indicators: %w", err)
	}
	if list, err = pgx.CollectRows(rows, scanIndicator); err != nil {
		return nil, "", fmt.Errorf("list indicators: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		last := list[limit-1]
		next = strconv.FormatInt(last.key(), 10) + "." + last.Source
	}
	return list, next, nil
}

// related are the values that say something of what somebody looks for.
func related(q string) (list []Value) {
	v, err := Parse("", q)
	if err != nil {
		return nil
	}
	list = []Value{v}
	switch v.Kind {
	case URL:
		if bare, _, ok := strings.Cut(v.Text, "?"); ok {
			list = append(list, Value{URL, bare})
		}
		host := hostOf(v.Text)
		if ip, err := ipAddress(host); err == nil {
			return append(list, Value{IP, ip})
		}
		return append(list, nameChain(host)...)
	case Email:
		return append(list, nameChain(v.Text[strings.LastIndexByte(v.Text, '@')+1:])...)
	case Domain:
		return nameChain(v.Text)
	}
	return list
}

// Sources are the names that indicators can have as their source.
func (s *Store) Sources(ctx context.Context) ([]string, error) {
	rows, err := s.db.Query(ctx, sourcesSQL)
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// fill checks an indicator and gives it what it does not say.
func (i *Indicator) fill(now time.Time, life time.Duration) error {
	v, err := Parse(i.Kind, i.Value)
	if err != nil {
		return err
	}
	if why := v.Harmless(); why != "" {
		return bad("%s %s", Defang(v.Text), why)
	}
	i.Kind, i.Value = v.Kind, v.Text
	if i.Class == "" {
		i.Class = policy.Suspicious
	}
	switch {
	case i.Class != Breach && !slices.Contains(Classes(), i.Class):
		return bad("the class %.20q is none of malware, phishing, suspicious, spam", i.Class)
	case i.Confidence < 0 || i.Confidence > 100:
		return bad("the confidence %d is not 0 to 100", i.Confidence)
	}
	// What lies in the future is a source's broken clock.
	if i.LastSeen.IsZero() || i.LastSeen.After(now) {
		i.LastSeen = now
	}
	if i.FirstSeen.IsZero() || i.FirstSeen.After(i.LastSeen) {
		i.FirstSeen = i.LastSeen
	}
	if i.ExpiresAt.IsZero() {
		i.ExpiresAt = i.LastSeen.Add(life)
	}
	// Nothing is known for ever: addresses and names change hands.
	if latest := now.Add(lifeMost); i.ExpiresAt.After(latest) {
		i.ExpiresAt = latest
	}
	if !i.ExpiresAt.After(now) {
		return errExpired
	}
	return nil
}

// errExpired is of an indicator that is too old to count.
var errExpired = fmt.Errorf("%w: it has expired", errValue)
