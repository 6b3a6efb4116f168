package intel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// warningMost bounds the entries of one list. Rankings of a million names are no
// lists of what is harmless.
const warningMost = 200_000

// warninglist is a list of what is harmless, in the form of misp-warninglists.
type warninglist struct {
	feed    string
	title   string
	kind    string // string, hostname or cidr
	version int64
	entries []string
}

// readWarninglist reads a list. Those of parts of values and of expressions are
// not taken: nobody could say beforehand what they let through.
func readWarninglist(feed string, b []byte) (*warninglist, error) {
	var in struct {
		Name    string          `json:"name"`
		Type    string          `json:"type"`
		Version json.RawMessage `json:"version"`
		List    []string        `json:"list"`
	}
	if err := json.Unmarshal(b, &in); err != nil || in.List == nil {
		return nil, feedAlarm(CodeNotAFeed, "the answer is no warninglist of MISP")
	}
	if !slices.Contains([]string{"string", "hostname", "cidr"}, in.Type) {
		return nil, feedAlarm(CodeNotAFeed, "it is a list of the type %.20q: only string, hostname and cidr are taken", in.Type)
	}
	if len(in.List) > warningMost {
		return nil, feedAlarm(CodeTooMuch, "it has more than %d entries", warningMost)
	}
	w := &warninglist{feed: feed, title: plainText(in.Name), kind: in.Type}
	w.version, _ = strconv.ParseInt(string(in.Version), 10, 64)
	for _, e := range in.List {
		if in.Type == "cidr" {
			if n, err := prefixOf(e); err == nil {
				w.entries = append(w.entries, n.String())
			}
			continue
		}
		if v, err := Parse("", e); err == nil && (in.Type == "string" || v.Kind == Domain) {
			w.entries = append(w.entries, v.Text)
		}
	}
	if len(w.entries) == 0 {
		return nil, feedError(CodeNotAFeed, "it has no entry that can be used: what is known stays")
	}
	slices.Sort(w.entries)
	w.entries = slices.Compact(w.entries)
	return w, nil
}

func prefixOf(s string) (netip.Prefix, error) {
	if n, err := netip.ParsePrefix(s); err == nil {
		return n.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.Unmap().WithZone("").Prefix(a.Unmap().BitLen())
}

// store keeps a list, and takes away what it says is harmless.
func (w *warninglist) store(ctx context.Context, tx pgx.Tx, n *counts) error {
	tag, err := tx.Exec(ctx, putWarninglistSQL, w.feed, w.title, w.kind, w.version, w.entries)
	if err != nil {
		return fmt.Errorf("store warninglist %s: %w", w.feed, err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	n.updated++
	var values []Value
	for _, e := range w.entries {
		if v, err := Parse("", e); err == nil {
			values = append(values, v)
		}
	}
	if tag, err = tx.Exec(ctx, clearHarmlessSQL, keysOf(values)); err != nil {
		return fmt.Errorf("take away what warninglist %s has: %w", w.feed, err)
	}
	n.gone += tag.RowsAffected()
	return nil
}

// harmlessSet is all lists, for looking values up.
type harmlessSet struct {
	exact map[string]string // value to title of the list
	under map[string]string // a name and all below it
	nets  []harmlessNet
}

type harmlessNet struct {
	prefix netip.Prefix
	title  string
}

// harmlessLists reads the lists of the feeds that are configured.
func (s *Store) harmlessLists(ctx context.Context) (*harmlessSet, error) {
	h := &harmlessSet{exact: map[string]string{}, under: map[string]string{}}
	if len(s.lists) == 0 {
		return h, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	rows, err := s.db.Query(ctx, warninglistsSQL, s.lists)
	if err != nil {
		return nil, fmt.Errorf("read warninglists: %w", err)
	}
	var w warninglist
	_, err = pgx.ForEachRow(rows, []any{&w.feed, &w.title, &w.kind, &w.entries}, func() error {
		h.add(w)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read warninglists: %w", err)
	}
	return h, nil
}

func (h *harmlessSet) add(w warninglist) {
	title := w.title
	if title == "" {
		title = w.feed
	}
	for _, e := range w.entries {
		switch w.kind {
		case "string":
			h.exact[e] = title
		case "hostname":
			h.under[e] = title
		case "cidr":
			if n, err := netip.ParsePrefix(e); err == nil {
				h.nets = append(h.nets, harmlessNet{n, title})
			}
		}
	}
}

// has is the title of the list that calls a value harmless, or "". A page of a
// harmless host may still be bad: only its front page is as harmless as the host.
func (h *harmlessSet) has(v Value) string {
	if t := h.exact[v.Text]; t != "" {
		return t
	}
	name := v.Text
	if v.Kind == URL {
		if name = hostOf(v.Text); v.Text != "http://"+name+"/" {
			return ""
		}
		if t := h.exact[name]; t != "" {
			return t
		}
	}
	if v.Kind == Domain || v.Kind == URL {
		for _, n := range nameChain(name) {
			if t := h.under[n.Text]; t != "" {
				return t
			}
		}
	}
	if a, err := netip.ParseAddr(name); err == nil {
		for _, n := range h.nets {
			if n.prefix.Contains(a.Unmap()) {
				return n.title
			}
		}
	}
	return ""
}
