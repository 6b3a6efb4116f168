package testenv

import (
	"context"
	"net"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestPostgres_EachTestHasItsOwn(t *testing.T) {
	t.Parallel()
	a, b := Postgres(t), Postgres(t)
	ctx := context.Background()
	if _, err := a.Admin(t).Exec(ctx, "DELETE FROM audit.event WHERE false"); err == nil {
		t.Error("DELETE on the audit went through")
	}
	var na, nb int
	if err := a.Pool.QueryRow(ctx, "SELECT count(*) FROM audit.tamper_attempt").Scan(&na); err != nil {
		t.Fatal(err)
	}
	if err := b.Pool.QueryRow(ctx, "SELECT count(*) FROM audit.tamper_attempt").Scan(&nb); err != nil {
		t.Fatal(err)
	}
	if na != 1 || nb != 0 {
		t.Errorf("traces: %d in the attacked database, want 1; %d in the other, want 0", na, nb)
	}
	if err := a.CheckPrivileges(ctx); err != nil {
		t.Errorf("the runtime role: %v", err)
	}
}

func TestRedisAndClamdAnswer(t *testing.T) {
	t.Parallel()
	if Redis(t) == "" || Clamd(t).Address == "" {
		t.Error("no address")
	}
}

// TestFreeAddr: no two tests get the same address, and a program can listen on it.
// A child that starts meanwhile may have the port of the try for a moment.
func TestFreeAddr(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 50 {
		a := FreeAddr(t)
		if seen[a] {
			t.Errorf("%s was given twice", a)
		}
		seen[a] = true
		l, err := net.Listen("tcp", a)
		for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); l, err = net.Listen("tcp", a) {
			time.Sleep(time.Millisecond)
		}
		if err != nil {
			t.Fatalf("cannot be listened on: %v", err)
		}
		l.Close()
	}
}
