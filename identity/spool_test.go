package identity

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"mailward/audit"
	"mailward/internal/pg"
)

func TestBreakGlass_IsAlarmed(t *testing.T) {
	t.Parallel()
	s, _, _ := newFullStore(t, nil)
	ctx := context.Background()
	u, err := s.FirstAdmin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetBreakGlass(ctx, pg.Operator("root"), u.ID, true); err != nil {
		t.Fatal(err)
	}
	_, p := signIn(t, s)
	rows := count(t, s, audit.BreakGlass, "success")
	if !p.User.BreakGlass || len(rows) != 1 || rows[0].Fields()["severity"] != "critical" || testutil.ToFloat64(s.breakGlass) != 1 {
		t.Errorf("%d on record, %v counted", len(rows), testutil.ToFloat64(s.breakGlass))
	}
}

func TestSpool_LoginsAreRecordedLater(t *testing.T) {
	t.Parallel()
	s, db, _ := newFullStore(t, nil)
	ctx := pg.WithRequest(context.Background(), pg.Request{SourceIP: from, Application: "web-ui"})
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Admin(t).Exec(context.Background(), "BEGIN; SELECT audit.maintenance('test', 'appends'); "+sql+"; COMMIT"); err != nil {
			t.Fatal(err)
		}
	}
	exec("REVOKE EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) FROM mailward_app")
	cookie, p, err := s.Login(ctx, "erika@ours.example", password, from, "")
	if err != nil {
		t.Fatal("whoever mends the record cannot get in: ", err)
	}
	if _, _, err := s.Login(ctx, "erika@ours.example", "wrong", from, ""); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := s.Session(ctx, cookie); err != nil {
		t.Error(err)
	}
	// Any other act is refused.
	if err := s.ChangePassword(ctx, p, password, "another good password"); err == nil {
		t.Error("a change of the password went through unrecorded")
	}
	names, err := s.spooledNames()
	if err != nil || len(names) != 2 || testutil.ToFloat64(s.waiting) != 2 {
		t.Fatalf("%d wait, %v", len(names), err)
	}
	s.drainSpool(ctx)
	if names, _ := s.spooledNames(); len(names) != 2 {
		t.Fatal("drained into a record that cannot be written")
	}
	exec("GRANT EXECUTE ON FUNCTION audit.append(uuid, bytea, jsonb) TO mailward_app")
	s.drainSpool(ctx)
	if names, _ := s.spooledNames(); len(names) != 0 || testutil.ToFloat64(s.waiting) != 0 {
		t.Errorf("%d still wait", len(names))
	}
	ok := count(t, s, audit.Login, "success")
	if len(ok) != 1 || len(count(t, s, audit.LoginFailed, "failure")) != 1 {
		t.Fatalf("%d logins on record", len(ok))
	}
	f := ok[0].Fields()
	if f["reason"].(map[string]any)["code"] != "spooled" || f["actor"].(map[string]any)["email"] != "erika@ours.example" ||
		f["auth"].(map[string]any)["session_id"] != p.SessionID.String() || f["source"].(map[string]any)["ip"] != from.String() {
		t.Errorf("on record: %s", ok[0].Bytes)
	}
}
