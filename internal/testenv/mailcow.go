package testenv

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Mailcow is a double of mailcow's API, with its traps: 200 for what it refuses,
// {} for an empty list, numbers as text, 401 and 200 with nothing for wrong and
// missing keys, 403 for a key that may only read.
type Mailcow struct {
	*httptest.Server

	mu        sync.Mutex // guards what follows
	domains   []string
	boxes     []map[string]any
	aliases   []map[string]any
	calls     []string
	breakWith func(w http.ResponseWriter) // answers in the place of the API, after a change was made
}

// The keys that it takes.
const (
	MailcowKey     = "rw-111111-222222-333333"
	MailcowReadKey = "ro-111111-222222-333333"
)

// StartMailcow starts one with these domains.
func StartMailcow(t testing.TB, domains ...string) *Mailcow {
	t.Helper()
	m := &Mailcow{domains: domains}
	m.Server = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(m.Close)
	return m
}

// AddMailbox adds one; active is 0, 1 or 2 (no login).
func (m *Mailcow) AddMailbox(address string, active int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	local, domain, _ := strings.Cut(address, "@")
	m.boxes = append(m.boxes, map[string]any{"username": address, "local_part": local, "domain": domain, "active": fmt.Sprint(active), "is_relayed": 0, "quota": 3221225472, "rl": false})
}

// AddAlias adds one; "@domain" is for everybody.
func (m *Mailcow) AddAlias(address string, active int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, domain, _ := strings.Cut(address, "@")
	m.aliases = append(m.aliases, map[string]any{"id": len(m.aliases) + 1, "address": address, "goto": "somebody@" + domain, "domain": domain, "active": active, "is_catch_all": 0})
}

// Break has f answer from now on, after the change that was asked for was made.
func (m *Mailcow) Break(f func(w http.ResponseWriter)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.breakWith = f
}

// Calls lists what was asked, "GET get/domain/all".
func (m *Mailcow) Calls() []string { m.mu.Lock(); defer m.mu.Unlock(); return slices.Clone(m.calls) }

// Domains lists what it has.
func (m *Mailcow) Domains() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.domains)
}

func (m *Mailcow) serve(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/api/v1/")
	m.calls = append(m.calls, r.Method+" "+path)
	w.Header().Set("Content-Type", "application/json")
	key := r.Header.Get("X-API-Key")
	switch {
	case key == "":
		return
	case key != MailcowKey && key != MailcowReadKey:
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"type":"error","msg":"authentication failed"}`)
		return
	case key == MailcowReadKey && r.Method != http.MethodGet:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"type":"error","msg":"API read/write access denied"}`)
		return
	}
	answer := m.answer(r, path)
	if m.breakWith != nil {
		m.breakWith(w)
		return
	}
	if answer == nil {
		w.WriteHeader(http.StatusNotFound)
		answer = map[string]string{"type": "error", "msg": "route not found"}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (m *Mailcow) answer(r *http.Request, path string) any {
	switch r.Method + " " + path {
	case "GET get/status/containers":
		return map[string]any{"postfix-mailcow": map[string]string{"type": "info", "container": "postfix-mailcow", "state": "running", "started_at": "2026-11-01T21:00:08.270660275Z", "image": "mailcow/postfix:1.42"}}
	case "GET get/domain/all":
		var list []any
		for i, d := range m.domains {
			list = append(list, map[string]any{"domain_name": d, "active": "1", "backupmx": fmt.Sprint(i % 2), "description": "of " + d, "mboxes_in_domain": 0, "max_num_mboxes_for_domain": 10, "rl": false, "tags": []string{}})
		}
		return orNothing(list)
	case "GET get/mailbox/all":
		return orNothing(m.boxes)
	case "GET get/alias/all":
		return orNothing(m.aliases)
	case "POST add/domain":
		return m.addDomain(r)
	}
	return nil
}

// orNothing is {} for an empty list, as mailcow writes it.
func orNothing[T any](list []T) any {
	if len(list) == 0 {
		return struct{}{}
	}
	return list
}

func (m *Mailcow) addDomain(r *http.Request) any {
	var in map[string]any
	if r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&in) != nil {
		return map[string]any{"type": "error", "msg": "Cannot find attributes in post data"}
	}
	name, _ := in["domain"].(string)
	entry := func(kind string, msg any) map[string]any {
		return map[string]any{"type": kind, "log": []any{"mailbox", "add", "domain", in}, "msg": msg}
	}
	most, _ := in["quota"].(float64)
	each, _ := in["maxquota"].(float64)
	switch {
	case slices.Contains(m.domains, name):
		return []any{entry("danger", []any{"domain_exists", name})}
	case !strings.Contains(name, "."):
		return []any{entry("danger", "domain_invalid")}
	case each <= 0:
		return []any{entry("danger", "maxquota_empty")}
	case each > most:
		return []any{entry("danger", "mailbox_quota_exceeds_domain_quota")}
	}
	m.domains = append(m.domains, name)
	return []any{entry("success", []any{"rl_saved", name}), entry("success", []any{"domain_added", name})}
}
