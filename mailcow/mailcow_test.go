package mailcow_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/mailcow"
)

func client(m *testenv.Mailcow, key string) *mailcow.Client {
	return mailcow.New(mailcow.Config{URL: m.URL + "/", Key: key})
}

func TestClient_Lists(t *testing.T) {
	t.Parallel()
	m := testenv.StartMailcow(t, "One.example", "two.example")
	c := client(m, testenv.MailcowReadKey)
	domains, err := c.Domains(t.Context())
	if err != nil || len(domains) != 2 || domains[0] != (mailcow.Domain{Name: "one.example", Description: "of One.example", Active: true, MostBoxes: 10}) || !domains[1].Backup {
		t.Errorf("got %+v, %v", domains, err)
	}
	none, err := c.Recipients(t.Context())
	if err != nil || len(none) != 0 {
		t.Errorf("an empty mailcow: got %v, %v", none, err)
	}
	m.AddMailbox("Bob@one.example", 1)
	m.AddMailbox("old@one.example", 0)
	m.AddMailbox("closed@one.example", 2)
	m.AddAlias("info@one.example", 1)
	m.AddAlias("was@one.example", 0)
	m.AddAlias("@two.example", 1)
	got, err := c.Recipients(t.Context())
	if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got["one.example"])), []string{"bob", "closed", "info"}) || !got["two.example"]["*"] {
		t.Errorf("got %v, %v", got, err)
	}
}

// mailcow shuts out who comes with a wrong key, so one refusal is enough.
func TestClient_StopsAfterARefusedKey(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"wrong", ""} {
		m := testenv.StartMailcow(t, "one.example")
		c := client(m, key)
		for range 3 {
			if _, err := c.Domains(t.Context()); !errors.Is(err, mailcow.ErrDenied) {
				t.Errorf("key %q: got %v, want ErrDenied", key, err)
			}
		}
		if n := len(m.Calls()); n != 1 {
			t.Errorf("key %q: %d calls, want 1", key, n)
		}
	}
}

func TestClient_BadAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(w http.ResponseWriter){
		"500":        func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"redirect":   func(w http.ResponseWriter) { w.Header().Set("Location", "/elsewhere"); w.WriteHeader(http.StatusFound) },
		"a page":     func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>maintenance</html>")) },
		"cut off":    func(w http.ResponseWriter) { _, _ = w.Write([]byte(`[{"domain_name":"one.exa`)) },
		"wrong type": func(w http.ResponseWriter) { _, _ = w.Write([]byte(`"ok"`)) },
	} {
		m := testenv.StartMailcow(t, "one.example")
		m.Break(answer)
		c := client(m, testenv.MailcowKey)
		if d, err := c.Domains(t.Context()); err == nil {
			t.Errorf("%s: got %v and no error", name, d)
		}
		if r, err := c.Recipients(t.Context()); err == nil {
			t.Errorf("%s: got recipients %v and no error", name, r)
		}
	}
}

// record keeps events in memory.
type record struct {
	events []audit.Event
	err    error
}

func (r *record) Record(_ context.Context, ev audit.Event) error {
	if r.err == nil {
		r.events = append(r.events, ev)
	}
	return r.err
}

func (r *record) RecordLater(_ context.Context, ev audit.Event) { r.events = append(r.events, ev) }

func TestCreateDomain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, key, domain string
		quota             int64
		lose              func(w http.ResponseWriter)
		unrecorded        error
		want              error
		made              bool
		outcome           string // "": nothing is on record
	}{
		{name: "made", domain: "new.example", made: true, outcome: "success"},
		{name: "there already", domain: "one.example", want: mailcow.ErrExists, outcome: "failure"},
		{name: "not a name", domain: "new", want: mailcow.ErrInvalid, outcome: "failure"},
		{name: "quota", domain: "new.example", quota: -1, want: mailcow.ErrInvalid, outcome: "failure"},
		{name: "key that reads", domain: "new.example", key: testenv.MailcowReadKey, want: mailcow.ErrReadOnly, outcome: "failure"},
		{name: "wrong key", domain: "new.example", key: "x", want: mailcow.ErrDenied, outcome: "failure"},
		{name: "answer lost", domain: "new.example", lose: func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, want: mailcow.ErrUnknown, made: true, outcome: "unknown"},
		{name: "failed but stored", domain: "new.example", lose: func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, want: mailcow.ErrUnknown, made: true, outcome: "unknown"},
		{name: "answer says nothing", domain: "new.example", lose: func(w http.ResponseWriter) { _, _ = w.Write([]byte("[]")) }, want: mailcow.ErrUnknown, made: true, outcome: "unknown"},
		{name: "no record", domain: "new.example", unrecorded: errors.New("down")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := testenv.StartMailcow(t, "one.example")
			m.Break(c.lose)
			key := c.key
			if key == "" {
				key = testenv.MailcowKey
			}
			rec := &record{err: c.unrecorded}
			d := mailcow.DefaultDomain(c.domain)
			if c.quota < 0 {
				d.DomainQuota = 0
			}
			err := (&mailcow.Directory{Client: client(m, key), Record: rec}).CreateDomain(t.Context(), pg.Operator("root"), nil, d)
			if c.unrecorded != nil {
				if err == nil || len(m.Calls()) != 0 {
					t.Errorf("without a record: got %v, calls %v", err, m.Calls())
				}
				return
			}
			if !errors.Is(err, c.want) || err != nil && c.want == nil {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if slices.Contains(m.Domains()[1:], c.domain) != c.made {
				t.Errorf("made: %v", m.Domains())
			}
			if len(rec.events) != 2 || rec.events[0].Phase != "intent" || rec.events[1].Outcome != c.outcome || rec.events[1].Correlation.CausationID != rec.events[0].ID.String() {
				t.Errorf("on record: %+v", rec.events)
			}
			if err != nil && strings.Contains(err.Error(), key) {
				t.Errorf("the error has the key in it: %v", err)
			}
		})
	}
}
