package approval_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/pg"
	"mailward/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// box takes mails, and refuses the first ones.
type box struct {
	refuse int
	sent   []string
}

func (b *box) Notice(_ context.Context, to, subject, text string) (uuid.UUID, error) {
	if b.refuse > 0 {
		b.refuse--
		return uuid.Nil, errors.New("no route")
	}
	b.sent = append(b.sent, to+": "+text)
	return uuid.Must(uuid.NewV7()), nil
}

// office is a database with people and a store of requests.
type office struct {
	t     *testing.T
	db    *testenv.DB
	asks  *approval.Store
	post  *box
	asker uuid.UUID
}

var ours = uuid.MustParse("00000000-0000-7000-8000-000000000001")

func newOffice(t *testing.T) *office {
	t.Helper()
	db := testenv.Postgres(t)
	o := &office{t: t, db: db, asks: approval.New(db.DB, audit.New(db.DB, audit.Options{}), nil), post: &box{}}
	o.asker = o.person("asker", "active", "operator", &ours, "admin")
	return o
}

func (o *office) exec(sql string, args ...any) {
	o.t.Helper()
	if _, err := o.db.Admin(o.t).Exec(context.Background(), sql, args...); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) person(name, state, by string, workspace *uuid.UUID, role string) uuid.UUID {
	o.t.Helper()
	id := uuid.Must(uuid.NewV7())
	o.exec("INSERT INTO user_account (id, email, name, password_hash, state, created_by) VALUES ($1, $2, '', 'x', $3, $4)", id, name+"@ours.example", state, by)
	o.exec("INSERT INTO role_grant (id, user_id, workspace_id, role, granted_by) VALUES (gen_random_uuid(), $1, $2, $3, $4)", id, workspace, role, by)
	return id
}

func (o *office) ask(kind approval.Kind, workspace *uuid.UUID, detail map[string]any) {
	o.t.Helper()
	actor := pg.Actor{Type: pg.ActorUser, UserID: o.asker}
	err := o.db.Act(context.Background(), actor, func(ctx context.Context, tx pgx.Tx) error {
		_, err := o.asks.Ask(ctx, tx, actor, nil, approval.Ask{Workspace: workspace, Kind: kind, Action: "x.request", Detail: detail, Reason: "because"})
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

// tell sends what is due, and returns what went out, in order.
func (o *office) tell() []string {
	o.t.Helper()
	o.post.sent = nil
	n := approval.Notices{Postman: o.post, Log: slog.New(slog.DiscardHandler), Deciders: []string{"admin", "approver"}, InstallDeciders: []string{"operator"},
		Compose: func(_ string, w []approval.Waiting) (string, string) {
			return "s", fmt.Sprintf("%d of %s by %s", len(w), w[0].Workspace, w[0].By)
		}}
	if err := o.asks.Tell(context.Background(), n); err != nil {
		o.t.Fatal(err)
	}
	slices.Sort(o.post.sent)
	return o.post.sent
}

func (o *office) later() {
	o.exec("UPDATE approval_notice SET claimed_at = now() - interval '6 minutes'")
}

// TestNotices_ToThoseWhoCanDecide makes accounts of all sorts and a request, and
// looks who is told of it, how often, and what of a mail that did not go.
func TestNotices_ToThoseWhoCanDecide(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	other := uuid.Must(uuid.NewV7())
	o.exec("INSERT INTO workspace (id, name) VALUES ($1, 'Other')", other)
	o.person("right", "active", "operator", &ours, "approver")
	about := o.person("about", "active", "operator", &ours, "admin")
	o.person("viewer", "active", "operator", &ours, "viewer")
	o.person("elsewhere", "active", "operator", &other, "approver")
	o.person("locked", "locked", "operator", &ours, "approver")
	o.person("puppet", "active", o.asker.String(), &ours, "approver")
	o.person("operator", "active", "operator", nil, "operator")
	o.ask(approval.RoleGrant, &ours, map[string]any{"user_id": about.String(), "role": "auditor"})
	o.post.refuse = 1
	for range 2 { // a claim that did not get through is left alone for a while
		if sent := o.tell(); len(sent) != 0 {
			t.Fatalf("sent %q", sent)
		}
	}
	o.later()
	if sent, want := o.tell(), []string{"right@ours.example: 1 of Default by asker@ours.example"}; !slices.Equal(sent, want) {
		t.Fatalf("sent %q, want %q", sent, want)
	}
	if sent := o.tell(); len(sent) != 0 {
		t.Errorf("told twice: %q", sent)
	}
	// More requests come together, and those for the installation go to who runs it.
	o.ask(approval.RoleGrant, &ours, map[string]any{"user_id": uuid.NewString(), "role": "viewer"})
	o.ask(approval.RoleGrant, &ours, map[string]any{"user_id": uuid.NewString(), "role": "viewer"})
	o.ask(approval.Retention, nil, map[string]any{"class": "sec-3y", "keep_days": 100})
	o.later()
	want := []string{"about@ours.example: 2 of Default by asker@ours.example", "operator@ours.example: 1 of  by asker@ours.example", "right@ours.example: 2 of Default by asker@ours.example"}
	if sent := o.tell(); !slices.Equal(sent, want) {
		t.Errorf("sent %q, want %q", sent, want)
	}
	// Who is no longer needed is not told.
	o.exec("UPDATE approval_request SET state = 'denied'")
	o.exec("DELETE FROM approval_notice")
	if sent := o.tell(); len(sent) != 0 {
		t.Errorf("told of what was decided: %q", sent)
	}
}
