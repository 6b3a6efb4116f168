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

// TestNotices_ToThoseWhoCanDecide makes accounts of all sorts and a request, and
// looks who is told of it, how often, and what of a mail that did not go.
func TestNotices_ToThoseWhoCanDecide(t *testing.T) {
	t.Parallel()
	db, ctx := testenv.Postgres(t), context.Background()
	asks, admin := approval.New(db.DB, audit.New(db.DB, audit.Options{}), nil), db.Admin(t)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := admin.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	other, ours := uuid.Must(uuid.NewV7()), uuid.MustParse("00000000-0000-7000-8000-000000000001")
	exec("INSERT INTO workspace (id, name) VALUES ($1, 'Other')", other)
	person := func(name, state, by string, workspace *uuid.UUID, role string) uuid.UUID {
		id := uuid.Must(uuid.NewV7())
		exec("INSERT INTO user_account (id, email, name, password_hash, state, created_by) VALUES ($1, $2, '', 'x', $3, $4)", id, name+"@ours.example", state, by)
		exec("INSERT INTO role_grant (id, user_id, workspace_id, role, granted_by) VALUES (gen_random_uuid(), $1, $2, $3, $4)", id, workspace, role, by)
		return id
	}
	asker := person("asker", "active", "operator", &ours, "admin")
	person("right", "active", "operator", &ours, "approver")
	about := person("about", "active", "operator", &ours, "admin")
	person("viewer", "active", "operator", &ours, "viewer")
	person("elsewhere", "active", "operator", &other, "approver")
	person("locked", "locked", "operator", &ours, "approver")
	person("puppet", "active", asker.String(), &ours, "approver")
	person("operator", "active", "operator", nil, "operator")
	ask := func(kind approval.Kind, workspace *uuid.UUID, detail map[string]any) {
		t.Helper()
		actor := pg.Actor{Type: pg.ActorUser, UserID: asker}
		err := db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
			_, err := asks.Ask(ctx, tx, actor, nil, approval.Ask{Workspace: workspace, Kind: kind, Action: "x.request", Detail: detail, Reason: "because"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ask(approval.RoleGrant, &ours, map[string]any{"user_id": about.String(), "role": "auditor"})
	post := &box{refuse: 1}
	n := approval.Notices{Postman: post, Log: slog.New(slog.DiscardHandler), Deciders: []string{"admin", "approver"}, InstallDeciders: []string{"operator"},
		Compose: func(_ string, w []approval.Waiting) (string, string) {
			return "s", fmt.Sprintf("%d of %s by %s", len(w), w[0].Workspace, w[0].By)
		}}
	tell := func() {
		t.Helper()
		if err := asks.Tell(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	tell()
	tell() // a claim that did not get through is left alone for a while
	if len(post.sent) != 0 {
		t.Fatalf("sent %q", post.sent)
	}
	exec("UPDATE approval_notice SET claimed_at = now() - interval '6 minutes'")
	tell()
	tell()
	if want := []string{"right@ours.example: 1 of Default by asker@ours.example"}; !slices.Equal(post.sent, want) {
		t.Fatalf("sent %q, want %q", post.sent, want)
	}
	// More requests come together, and those for the installation go to who runs it.
	ask(approval.RoleGrant, &ours, map[string]any{"user_id": uuid.NewString(), "role": "viewer"})
	ask(approval.RoleGrant, &ours, map[string]any{"user_id": uuid.NewString(), "role": "viewer"})
	ask(approval.Retention, nil, map[string]any{"class": "sec-3y", "keep_days": 100})
	post.sent = nil
	exec("UPDATE approval_notice SET claimed_at = now() - interval '6 minutes'")
	tell()
	slices.Sort(post.sent)
	want := []string{"about@ours.example: 2 of Default by asker@ours.example", "operator@ours.example: 1 of  by asker@ours.example", "right@ours.example: 2 of Default by asker@ours.example"}
	if !slices.Equal(post.sent, want) {
		t.Errorf("sent %q, want %q", post.sent, want)
	}
	// Who is no longer needed is not told.
	exec("UPDATE approval_request SET state = 'denied'")
	exec("DELETE FROM approval_notice")
	post.sent = nil
	tell()
	if len(post.sent) != 0 {
		t.Errorf("told of what was decided: %q", post.sent)
	}
}
