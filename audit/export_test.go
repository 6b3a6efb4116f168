package audit

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
	"mailward/internal/testenv"
)

// account makes a user, whom exports and views belong to.
func account(t *testing.T, db *testenv.DB) pg.Actor {
	t.Helper()
	who := pg.Actor{Type: pg.ActorUser, UserID: uuid.New(), Email: "erika@ours.example", Display: "Erika", AuthMethod: "password", SessionID: uuid.New()}
	if _, err := db.Admin(t).Exec(context.Background(), "INSERT INTO user_account (id, email, name, password_hash) VALUES ($1, $2, 'Erika', 'x')", who.UserID, who.UserID.String()+"@ours.example"); err != nil {
		t.Fatal(err)
	}
	return who
}

func export(t *testing.T, l *Log, who pg.Actor, sel Selection, w interface{ Write([]byte) (int, error) }) (uuid.UUID, error) {
	t.Helper()
	begun, err := l.BeginExport(context.Background(), Event{Action: AuditExport, Actor: who, After: map[string]any{"format": string(sel.Format)}})
	if err != nil {
		t.Fatal(err)
	}
	return begun.ID, l.Export(context.Background(), begun, sel, w)
}

func TestExport_EveryFormatHoldsTheEvent(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	who := account(t, db)
	item := uuid.NewString()
	ctx = pg.WithRequest(ctx, pg.Request{ID: "r1", Method: "POST", Path: "/policies/{id}", Application: "web-ui", Status: 200})
	for _, ev := range []Event{
		{Action: "policy.update", Actor: who, Reason: "a=b|c\\d\nsecond line", Before: map[string]any{"spam": "tag"}, After: map[string]any{"spam": "hold"}, Targets: []Target{{Type: "policy", ID: item}}},
		{Action: "role.create", Actor: who, After: map[string]any{"role": "analyst", "user_id": item}},
		{Action: Login, Actor: who}, {Action: Lockout, Actor: who, Outcome: "failure"}, {Action: GuardViolation, Actor: pg.System("x", "y"), Severity: "critical"}, {Action: PageView, Actor: who},
	} {
		ev.Workspace = uuid.Nil
		if err := l.Record(ctx, ev); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Sequence(ctx); err != nil {
		t.Fatal(err)
	}
	head := func(context.Context) (*TreeHead, error) {
		return &TreeHead{Origin: "mx.example/audit", Size: 9, Root: "cm9vdA==", SignedAt: time.Now(), Note: "mx.example/audit\n9\ncm9vdA==\n\n- sig"}, nil
	}
	files := map[Format]string{}
	for _, format := range Formats() {
		var b bytes.Buffer
		if _, err := export(t, l, who, Selection{Filter: Filter{Action: "policy.update,role.create,auth.login,auth.lockout,guard.violation,web.view"}, Format: format, Head: head}, &b); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		files[format] = b.String()
	}
	wantCSVClosing(t, files[CSV])
	wantOCSF(t, files[OCSF], item)
	wantECS(t, files[ECS])
	line := lineWith(t, files[CEF], "|policy.update|")
	for _, want := range []string{"CEF:0|Mailward|Mailward|", `reason=a\=b|c\\d\nsecond line`, "suser=erika@ours.example", "act=policy.update", "outcome=success", "cn1Label=seq", "requestMethod=POST"} {
		if !strings.Contains(line, want) {
			t.Errorf("CEF lacks %q: %s", want, line)
		}
	}
	if strings.Contains(files[CEF], "<nil>") {
		t.Errorf("CEF says of what is not there: %s", line)
	}
	if got := cef(Row{}, map[string]any{"reason": map[string]any{"text": "a\x1b[2Jb\u2028c\x00d\u0085e"}}); !strings.Contains(got, "reason=a [2Jb c d e") {
		t.Errorf("CEF with characters that end a line or command a terminal: %q", got)
	}
	if n := strings.Count(files[CEF], "\n"); n != 6 {
		t.Errorf("CEF has %d lines", n)
	}
}

// TestExport_CSVNamesProviderAndApprover: who signed in how, and who agreed, are what
// an auditor looks for first, so that they are columns of their own.
func TestExport_CSVNamesProviderAndApprover(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	who, asked := account(t, db), uuid.NewString()
	who.AuthMethod, who.Provider, who.Protocol, who.MFA = "sso", "corp", "oidc", true
	if err := l.Record(ctx, Event{Action: ReleaseApprove, Actor: who, Ticket: "SOC-7", Correlation: Correlation{MailID: asked},
		Approval: &Approval{Mode: "required", RequestedBy: asked, Required: 1, Approvers: []string{who.UserID.String()}, Decision: "approved"}}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := export(t, l, who, Selection{Filter: Filter{Action: ReleaseApprove}, Format: CSVPlain}, &b); err != nil {
		t.Fatal(err)
	}
	recs, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(recs) != 2 {
		t.Fatal(len(recs), err)
	}
	got := map[string]string{}
	for i, column := range recs[0] {
		got[column] = recs[1][i]
	}
	for column, want := range map[string]string{"auth_provider": "corp", "auth_mfa": "true", "approval_mode": "required", "requested_by": asked,
		"approvers": who.UserID.String() + " approved", "attested_by": "server", "ticket": "SOC-7", "mail_id": asked} {
		if got[column] != want {
			t.Errorf("%s is %q, want %q", column, got[column], want)
		}
	}
}

func TestSafeCell(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "   @x", "\u00a0=1", "\ufeff=1", "＝1", "　＋1"} {
		if got := SafeCell(s); got != "'"+s {
			t.Errorf("%q becomes %q", s, got)
		}
	}
	for _, s := range []string{"", " ", "a=1", "1-2", "erika@ours.example", "'=1"} {
		if got := SafeCell(s); got != s {
			t.Errorf("%q becomes %q", s, got)
		}
	}
}

func lineWith(t *testing.T, file, part string) string {
	t.Helper()
	for line := range strings.Lines(file) {
		if strings.Contains(line, part) {
			return line
		}
	}
	t.Fatalf("no line with %s in %s", part, file)
	return ""
}

// wantCSVClosing looks for what says that the file is whole.
func wantCSVClosing(t *testing.T, file string) {
	t.Helper()
	recs, err := csv.NewReader(strings.NewReader(file)).ReadAll() // every record has as many fields
	if err != nil {
		t.Fatal(err)
	}
	closing := map[string][]string{}
	for _, rec := range recs {
		if strings.HasPrefix(rec[0], "#") {
			closing[rec[0]] = rec[1:]
		}
	}
	if closing["#events"][0] != "6" || closing["#recorded"][0] > closing["#recorded"][1] || closing["#tree_head"][1] != "9" || !strings.Contains(closing["#checkpoint"][0], "- sig") ||
		!strings.Contains(closing["#selected"][0], `"format":"csv"`) || closing["#complete_below_number"][0] == "0" || len(recs) != 1+6+len(closing) {
		t.Errorf("closing %v in %d records", closing, len(recs))
	}
}

func wantOCSF(t *testing.T, file, object string) {
	t.Helper()
	class := map[string]float64{"policy.update": 300403, "role.create": 300501, Login: 300201, Lockout: 300109, GuardViolation: 100899, PageView: 600301}
	for line := range strings.Lines(file) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		action := at(m, "message")
		for _, key := range []string{"activity_id", "category_uid", "class_uid", "type_uid", "time", "severity_id", "status_id", "metadata", "actor", "raw_data"} {
			if m[key] == nil {
				t.Errorf("OCSF, %s: no %s", action, key)
			}
		}
		if m["type_uid"] != class[action] || m["class_uid"].(float64)*100+m["activity_id"].(float64) != m["type_uid"] {
			t.Errorf("OCSF, %s: type %v", action, m["type_uid"])
		}
		var need []string // required by the class, beside the base event
		switch m["class_uid"] {
		case 3004.0:
			need = []string{"entity"}
		case 3001.0, 3002.0, 3005.0:
			need = []string{"user"}
		case 6003.0:
			need = []string{"api", "src_endpoint"}
		}
		for _, key := range need {
			if x, ok := m[key].(map[string]any); !ok || len(x) == 0 {
				t.Errorf("OCSF, %s: no %s", action, key)
			}
		}
		switch action {
		case "policy.update":
			if at(m, "entity", "uid") != object || at(m, "entity", "data", "spam") != "tag" || at(m, "entity_result", "data", "spam") != "hold" || at(m, "actor", "user", "email_addr") != "erika@ours.example" {
				t.Errorf("OCSF of a change: %s", line)
			}
		case "role.create":
			if at(m, "user", "uid") != object || m["privileges"].([]any)[0] != "analyst" {
				t.Errorf("OCSF of a role: %s", line)
			}
		case GuardViolation:
			if m["severity_id"] != 5.0 {
				t.Errorf("OCSF: severity %v", m["severity_id"])
			}
		}
	}
}

func wantECS(t *testing.T, file string) {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(lineWith(t, file, `"action":"auth.lockout"`)), &m); err != nil {
		t.Fatal(err)
	}
	if at(m, "event", "outcome") != "failure" || at(m, "event", "kind") != "event" || at(m, "user", "email") != "erika@ours.example" || at(m, "@timestamp") == "" ||
		at(m, "ecs", "version") == "" || at(m, "http", "response", "status_code") != "200" || m["event"].(map[string]any)["category"].([]any)[0] != "authentication" {
		t.Errorf("ECS %v", m)
	}
}

// brittle takes some bytes and then nothing, as a reader that has gone.
type brittle struct{ left int }

func (b *brittle) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("gone")
	}
	return len(p), nil
}

func TestExport_ItsOwnerFollowsItAndItsEndIsOnRecord(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	who, other := account(t, db), account(t, db)
	for range 4 {
		if err := l.Record(ctx, Event{Action: Login, Actor: who}); err != nil {
			t.Fatal(err)
		}
	}
	broken, err := export(t, l, who, Selection{Filter: Filter{Action: Login}, Format: NDJSON}, &brittle{left: 4000})
	if err == nil {
		t.Fatal("an export to nobody has succeeded")
	}
	whole, err := export(t, l, who, Selection{Filter: Filter{Action: Login}, Format: NDJSON}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := l.Exports(ctx, who.UserID)
	if err != nil || len(jobs) != 2 || jobs[0].ID != whole || jobs[0].State != "complete" || jobs[0].Done != 1 || jobs[0].Written != 4 || jobs[1].ID != broken || jobs[1].State != "failed" {
		t.Errorf("jobs %+v, %v", jobs, err)
	}
	if jobs, err := l.Exports(ctx, other.UserID); err != nil || len(jobs) != 0 {
		t.Errorf("somebody else sees them: %v, %v", jobs, err)
	}
	p, err := l.List(ctx, Filter{Action: AuditExport, Link: broken.String(), Outcome: "failure"})
	if err != nil || len(p.Items) != 1 || at(p.Items[0].Fields(), "change", "after", "count") == "4" || at(p.Items[0].Fields(), "change", "after", "sha256") != "" {
		t.Errorf("an export that broke off is not on record as one: %v", err)
	}
	// One whose process has died says nothing any more.
	if _, err := db.Admin(t).Exec(ctx, "UPDATE audit_export SET state = 'running', updated_at = now() - interval '10 minutes' WHERE id = $1", broken); err != nil {
		t.Fatal(err)
	}
	if jobs, err := l.Exports(ctx, who.UserID); err != nil || jobs[1].State != "silent" {
		t.Errorf("jobs %+v, %v", jobs, err)
	}
}

func TestExportJob_Part(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	j := &job{newest: at.AddDate(0, 0, 10), oldest: at}
	for _, tt := range []struct {
		t    time.Time
		want float64
	}{{j.newest, 0}, {at.AddDate(0, 0, 5), 0.5}, {at, 1}, {at.AddDate(0, 0, -1), 1}, {at.AddDate(0, 0, 11), 0}} {
		if got := j.part(tt.t); got != tt.want {
			t.Errorf("at %v: %v, want %v", tt.t, got, tt.want)
		}
	}
}

func TestViews_BelongToTheirPerson(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t)
	l, ctx := newLog(db), context.Background()
	who, other := account(t, db), account(t, db)
	// Only with its claim looked up is a row's change that person's.
	save := func(a pg.Actor, name, query string) error {
		a.Type, a.SessionID = pg.ActorSystem, uuid.Nil
		return l.SaveView(ctx, a, name, query)
	}
	if err := errors.Join(save(who, "  My  view ", "actor=x%40y.example"), save(who, "MY VIEW", "range=all"), save(other, "My view", "")); err != nil {
		t.Fatal(err)
	}
	views, err := l.Views(ctx, who.UserID)
	if err != nil || len(views) != 1 || views[0].Name != "MY VIEW" || views[0].Query != "range=all" {
		t.Fatalf("views %+v, %v", views, err)
	}
	for name, v := range map[string][2]string{"no name": {" ", ""}, "a long name": {strings.Repeat("x", 81), ""}, "a long filter": {"x", strings.Repeat("x", 2001)}} {
		if err := save(who, v[0], v[1]); !errors.Is(err, ErrBadView) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.DeleteView(ctx, other, views[0].ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("somebody else's view: %v", err)
	}
	p, err := l.List(ctx, Filter{Action: "audit.saved_view.*"})
	if err != nil || len(p.Items) != 3 {
		t.Fatalf("%d changes of views on record, %v", len(p.Items), err)
	}
	for _, r := range p.Items {
		if strings.Contains(string(r.Bytes), "y.example") {
			t.Errorf("a filter is in the record: %s", r.Bytes)
		}
	}
	err = db.Act(ctx, pg.System("x", "y"), func(ctx context.Context, tx pgx.Tx) error {
		for i := range MaxViews - 1 {
			if _, err := tx.Exec(ctx, saveViewSQL, uuid.Must(uuid.NewV7()), who.UserID, strings.Repeat("v", i+1), "", MaxViews); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := save(who, "one too many", ""); !errors.Is(err, ErrBadView) {
		t.Errorf("one too many: %v", err)
	}
	if err := save(who, "my view", "q=x"); err != nil {
		t.Errorf("one of those that are there: %v", err)
	}
}

// TestOCSF_Users: each user has an id or a name, and a type that OCSF knows; a role has
// its name; whose login failed is whom it was tried as.
func TestOCSF_Users(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{"user": "1 User", "operator": "2 Admin", "system": "3 System", "unknown": "0 Unknown", "database": "99 database", "recipient": "99 recipient", "anonymous": "99 anonymous"} {
		m := map[string]any{"action": LoginFailed, "actor": map[string]any{"type": kind, "id": "", "display": ""}}
		user, _ := ocsf(Row{}, m)["actor"].(map[string]any)["user"].(map[string]any)
		if got := fmt.Sprint(user["type_id"], " ", user["type"]); got != want || at(user, "name") == "" {
			t.Errorf("%s: %v", kind, user)
		}
	}
	failed := map[string]any{"action": LoginFailed, "actor": map[string]any{"type": "unknown"}, "targets": []any{map[string]any{"type": "account", "id": "", "value": "eve@evil.example"}}}
	if user, _ := ocsf(Row{}, failed)["user"].(map[string]any); user["name"] != "eve@evil.example" {
		t.Errorf("a failed login: %v", user)
	}
	word := map[string]any{"action": RoleApprove, "actor": map[string]any{"type": "user", "id": "u"}, "targets": []any{map[string]any{"type": "approval_request", "id": "a"}, map[string]any{"type": "user_account", "id": "b", "label": "analyst"}}}
	if got := ocsf(Row{}, word)["privileges"]; fmt.Sprint(got) != "[analyst]" {
		t.Errorf("a decision on a role: %v", got)
	}
}

// TestExport_Addresses: in CEF src is for IPv4 alone, and words in the place of an address
// that was erased stand in no field for addresses.
func TestExport_Addresses(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]string{"192.0.2.7": " src=192.0.2.7", "2001:db8::7": " c6a2Label=Source IPv6 Address c6a2=2001:db8::7", Erased: ""} {
		m := map[string]any{"action": Login, "source": map[string]any{"ip": ip}, "observer": map[string]any{"instance": "n"}}
		if got := cef(Row{}, m); !strings.Contains(got, want) || strings.Contains(got, "src=2001") || strings.Contains(got, Erased) {
			t.Errorf("%s: %s", ip, got)
		}
		out, source := ecs(Row{}, m), ocsf(Row{}, m)["src_endpoint"]
		if want == "" {
			ip = ""
		}
		if at(out, "source", "ip") != ip || (out["related"] == nil) != (ip == "") || at(source.(map[string]any), "ip") != ip {
			t.Errorf("%s: %v %v %v", ip, out["source"], out["related"], source)
		}
	}
}

// A session that a provider or an administrator ends is its person's, not theirs.
func TestOCSF_WhoseSession(t *testing.T) {
	t.Parallel()
	for actor, want := range map[string]string{"system": "u1", "user": "u1"} {
		m := map[string]any{"action": SessionRevoke, "actor": map[string]any{"type": actor, "id": "u2", "display": "x"},
			"targets": []any{map[string]any{"type": "session", "id": "s1"}, map[string]any{"type": "user_account", "id": "u1"}}}
		user, _ := ocsf(Row{}, m)["user"].(map[string]any)
		if user["uid"] != want {
			t.Errorf("%s: %v", actor, user)
		}
	}
}
