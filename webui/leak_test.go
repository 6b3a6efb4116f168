package webui

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"mailward/identity"
	"mailward/internal/pg"
	"mailward/quarantine"
)

// marker is in everything that the first workspace has; nobody of another one
// may ever read it.
const marker = "zaunkoenig"

// stranger is somebody of another workspace, or nobody.
type stranger struct{ name, cookie, token string }

// leakSite has a workspace that is full, and one person of each role in another.
func leakSite(t *testing.T) (s *realSite, things map[string]string, who []*stranger) {
	t.Helper()
	s = newRealSite(t, identity.SingleOperator)
	ctx := context.Background()
	admin := s.token(identity.Admin)
	make := func(path, body string) string {
		t.Helper()
		status, m, text := s.call(admin, "POST", path, body)
		if status >= 300 {
			t.Fatalf("POST %s: %d %s", path, status, text)
		}
		id, _ := m["id"].(string)
		return id
	}
	things = map[string]string{
		"item":   s.hold(marker + "@" + marker + ".example").ID.String(),
		"domain": make("/domains", `{"name":"`+marker+`.example","next_hop":"10.0.0.5:25"}`),
		"group":  make("/policy-groups", `{"name":"`+marker+`","members":["x@`+marker+`.example"]}`),
		"entry":  make("/policy-entries", `{"kind":"block","match":"sender_domain","value":"`+marker+`.example","class":"spam","action":"reject","reason":"test"}`),
		"user":   make("/users", `{"email":"`+marker+`@ours.example","password":"`+sitePassword+`","roles":["viewer"]}`),
		"token":  make("/tokens", `{"name":"`+marker+`","role":"viewer"}`),
		"dlp":    make("/dlp/sets", `{"name":"`+marker+`","rules":{"keywords":["`+marker+`"]}}`),
		"space":  identity.DefaultWorkspace.String(),
	}
	things["export"] = make("/quarantine/"+things["item"]+"/export", `{"case":"`+marker+`","case_title":"`+marker+`","purpose":"`+marker+`","reason":"`+marker+`"}`)
	things["incident"] = make("/incidents", `{"title":"`+marker+`","detected_at":"2026-10-24T08:00:00Z","aware_at":"2026-10-24T08:00:00Z","facts":{"incidentSummary":"`+marker+`"}}`)
	things["report"] = make("/incidents/"+things["incident"]+"/reports", `{"stage":"early_warning","seen_version":0,"state":"submitted","submitted_at":"2026-10-24T09:00:00Z","channel":"`+marker+`"}`)
	things["bulk"] = make("/quarantine/bulk", `{"act":"sandbox","reason":"`+marker+`","items":["`+things["item"]+`"]}`)
	_, err := s.exports.Next(ctx)
	must(t, err)
	_, err = s.held.Release(ctx, pg.Actor{Type: pg.ActorUser, UserID: s.admin.ID}, nil, uuid.MustParse(things["item"]), quarantine.ReleaseRequest{Reason: marker})
	must(t, err)
	must(t, s.db.Pool.QueryRow(ctx, "SELECT d.id, d.mail_id FROM delivery d").Scan(scanID(things, "delivery"), scanID(things, "mail")))
	// One mail waits for a second person.
	_, err = s.db.Admin(t).Exec(ctx, `UPDATE setting SET value = '"required"' WHERE key = 'four_eyes'`)
	must(t, err)
	_, err = s.held.Release(ctx, pg.Actor{Type: pg.ActorUser, UserID: s.admin.ID}, nil, s.hold("second@"+marker+".example").ID, quarantine.ReleaseRequest{Reason: marker})
	must(t, err)
	must(t, s.db.Pool.QueryRow(ctx, "SELECT id, 0 FROM release WHERE state = 'requested'").Scan(scanID(things, "request"), new(int)))
	_, p, err := s.ids.Login(ctx, s.admin.Email, sitePassword, netip.MustParseAddr("192.0.2.1"), "")
	must(t, err)
	other, err := s.ids.CreateWorkspace(ctx, p, "Other", "test")
	must(t, err)
	who = []*stranger{{name: "nobody"}}
	for _, r := range identity.WorkspaceRoles() {
		email := string(r) + "@other.example"
		u, err := s.ids.CreateUser(ctx, pg.Operator("root"), identity.NewUser{Email: email, Password: sitePassword, Roles: []identity.Role{r}, Workspace: other.ID})
		must(t, err)
		cookie, _, err := s.ids.Login(ctx, email, sitePassword, netip.MustParseAddr("192.0.2.2"), "")
		must(t, err)
		// A token for everywhere is still only its owner's.
		token, _, err := s.ids.CreateToken(ctx, pg.Operator("root"), identity.NewToken{Name: "t", Role: identity.Admin, OwnerID: u.ID})
		must(t, err)
		who = append(who, &stranger{name: string(r), cookie: cookie}, &stranger{name: string(r) + "'s token", token: token})
	}
	return s, things, who
}

func (w *stranger) ask(s *realSite, method, path, body, kind string) (int, string) {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.RemoteAddr = "192.0.2.3:4711"
	if body != "" {
		req.Header.Set("Content-Type", kind)
	}
	// What somebody chose in the frame gives no right.
	req.AddCookie(&http.Cookie{Name: spaceCookie, Value: identity.DefaultWorkspace.String()})
	if w.cookie != "" {
		req.AddCookie(&http.Cookie{Name: "mailward_session", Value: w.cookie})
	}
	if w.token != "" {
		req.Header.Set("Authorization", "Bearer "+w.token)
	}
	rec := httptest.NewRecorder()
	s.srv.Handler().ServeHTTP(rec, req)
	for _, c := range rec.Result().Cookies() {
		if c.Name == "mailward_session" && c.Value != "" {
			w.cookie = c.Value // whoever shows who they are gets a new one, and the old one ends soon
		}
	}
	return rec.Code, rec.Body.String()
}

var (
	anyID   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	anyTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z|[0-9]+ (s|ms|min)\b|[0-9]+(\.[0-9]+)? ?ms`)
)

// sameShape takes out of an answer what differs from call to call.
func sameShape(body, id string) string {
	return anyTime.ReplaceAllString(anyID.ReplaceAllString(strings.ReplaceAll(body, id, "ID"), "ID"), "TIME")
}

// TestNothingLeaksAcrossWorkspaces walks everything that can be called, as every
// role of another workspace, as its token and as nobody, with the ids of all that
// the first workspace has. The answer is never content, never a success, and the
// same as for a thing that does not exist.
func TestNothingLeaksAcrossWorkspaces(t *testing.T) {
	t.Parallel()
	s, things, who := leakSite(t)
	calls := 0
	for _, r := range s.srv.routes {
		if r.Public || r.Path == "/logout" || strings.HasPrefix(r.Path, "/password") {
			continue
		}
		body, kind := "", ""
		if r.Method != http.MethodGet {
			body, kind = "reason=because+of+it&password="+strings.ReplaceAll(sitePassword, " ", "+")+"&state=disabled&role=viewer", "application/x-www-form-urlencoded"
			if strings.HasPrefix(r.Path, apiPrefix) {
				body, kind = `{"reason":"because of it"}`, "application/json"
			}
		}
		for _, w := range who {
			if w.token != "" && !strings.HasPrefix(r.Path, apiPrefix) {
				continue // pages are for people: a token is nobody there
			}
			if !strings.Contains(r.Path, ":") {
				calls++
				path := r.Path
				if r.Method == http.MethodGet && !strings.HasPrefix(path, apiPrefix) {
					path += "?space=" + things["space"] // a filter neither
				}
				if _, got := w.ask(s, r.Method, path, body, kind); r.Method == http.MethodGet && strings.Contains(got, marker) {
					t.Errorf("%s %s shows %s what is not theirs", r.Method, r.Path, w.name)
				}
				continue
			}
			none := uuid.Must(uuid.NewV7()).String()
			wantStatus, want := w.ask(s, r.Method, pathWith(r.Path, none, "nowhere.example"), body, kind)
			for what, id := range things {
				calls++
				status, got := w.ask(s, r.Method, pathWith(r.Path, id, marker+".example"), body, kind)
				got = strings.ReplaceAll(got, marker+".example", "nowhere.example")
				switch {
				case status < 400 && status != http.StatusSeeOther:
					t.Errorf("%s %s with the first workspace's %s as %s: %d", r.Method, r.Path, what, w.name, status)
				case strings.Contains(got, marker):
					t.Errorf("%s %s with the first workspace's %s shows %s content", r.Method, r.Path, what, w.name)
				case status != wantStatus || sameShape(got, id) != sameShape(want, none):
					t.Errorf("%s %s as %s tells that the %s exists: %d and %d\n%.300s\n%.300s", r.Method, r.Path, w.name, what, status, wantStatus, sameShape(got, id), sameShape(want, none))
				}
			}
		}
	}
	t.Logf("%d calls to %d routes", calls, len(s.srv.routes))
	// Who was locked out on the way has tried nothing since.
	for _, w := range who {
		path, out := "/", http.StatusSeeOther
		if w.token != "" {
			path, out = apiPrefix+"/quarantine", http.StatusUnauthorized
		}
		if status, _ := w.ask(s, http.MethodGet, path, "", ""); (status == out) != (w.name == "nobody") {
			t.Errorf("%s is not what it was at the end: %d", w.name, status)
		}
	}
	var n int
	must(t, s.db.Pool.QueryRow(context.Background(), "SELECT count(*) FROM user_account WHERE state <> 'active'").Scan(&n))
	if n != 0 {
		t.Errorf("%d accounts of others were suspended", n)
	}
}

func pathWith(route, id, domain string) string {
	var out []string
	for _, part := range strings.Split(route, "/") {
		switch part {
		case ":domain":
			part = domain
		case ":number":
			part = "1"
		case ":stage":
			part = "early_warning"
		case ":word":
			part = "approve"
		case ":verb":
			part = map[string]string{"users": "grant", "workspaces": "rename"}[strings.Split(route, "/")[1]]
		default:
			if strings.HasPrefix(part, ":") {
				part = id
			}
		}
		out = append(out, part)
	}
	return strings.Join(out, "/")
}

func scanID(into map[string]string, key string) *idInto { return &idInto{into, key} }

// idInto puts an id that a query gives into a map.
type idInto struct {
	into map[string]string
	key  string
}

func (i *idInto) Scan(v any) error { i.into[i.key] = fmt.Sprint(v); return nil }
