package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
)

// row answers one query with values or an error.
type row struct {
	values []any
	err    error
}

func (r row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	if len(dest) != len(r.values) {
		return fmt.Errorf("%d columns for %d values", len(r.values), len(dest))
	}
	for i, d := range dest {
		switch d := d.(type) {
		case *string:
			*d = r.values[i].(string)
		case *bool:
			*d = r.values[i].(bool)
		case *int:
			*d = r.values[i].(int)
		case *time.Time:
			*d = r.values[i].(time.Time)
		case **time.Time:
			if v, ok := r.values[i].(time.Time); ok {
				*d = &v
			}
		default:
			return fmt.Errorf("no %T here", d)
		}
	}
	return nil
}

func (r row) QueryRow(context.Context, string, ...any) pgx.Row { return r }

type want struct {
	state State
	code  string
	words string // that the reason must hold
}

func (w want) check(t *testing.T, name string, r Result) {
	t.Helper()
	reason := r.Reason.String()
	if r.State != w.state || r.Code != w.code {
		t.Errorf("%s: %s %q (%s; %s), want %s %q", name, r.State, r.Code, reason, r.Detail, w.state, w.code)
	}
	if !strings.Contains(reason, w.words) {
		t.Errorf("%s: reason %q does not say %q", name, reason, w.words)
	}
	if !strings.HasSuffix(reason, ".") && !strings.HasSuffix(reason, "mailward migrate") {
		t.Errorf("%s: reason %q is not a sentence", name, r.Reason)
	}
	if r.State != Up && r.State != Unknown && !strings.Contains(strings.ToLower(reason), "mail") {
		t.Errorf("%s: reason %q does not say what it means for mail", name, r.Reason)
	}
}

func TestPostgreSQL(t *testing.T) {
	began := time.Now()
	answer := func(standby, readOnly bool, used int) row {
		return row{values: []any{"15.20", standby, readOnly, used, 100, 3, began}}
	}
	for name, c := range map[string]struct {
		row  row
		want want
	}{
		"up":              {answer(false, false, 5), want{Up, "", "15.20"}},
		"standby":         {answer(true, true, 5), want{Down, "read_only", "primary"}},
		"read only":       {answer(false, true, 5), want{Down, "read_only", "451"}},
		"nearly full":     {answer(false, false, 90), want{Degraded, "connections", "90 of 97"}},
		"unreachable":     {row{err: errors.New("connection refused")}, want{Down, "unreachable", "451"}},
		"timeout":         {row{err: context.DeadlineExceeded}, want{Down, "unreachable", "451"}},
		"wrong password":  {row{err: &pgconn.PgError{Code: "28P01", Message: "password authentication failed"}}, want{NotAuthorised, "refused", "password"}},
		"no such right":   {row{err: fmt.Errorf("x: %w", &pgconn.PgError{Code: "42501"})}, want{NotAuthorised, "refused", "migrate"}},
		"no connection":   {row{err: &pgconn.PgError{Code: "53300"}}, want{Down, "connections", "max_connections"}},
		"shutting down":   {row{err: &pgconn.PgError{Code: "57P03"}}, want{Down, "unreachable", "451"}},
		"wrong structure": {row{values: []any{"15"}}, want{Down, "unreachable", "451"}},
	} {
		r := PostgreSQL(c.row).Check(t.Context())
		c.want.check(t, name, r)
		if r.State == Up && (r.Facts["connections"] != "5" || r.Facts["connections_max"] != "100") {
			t.Errorf("%s: facts %v", name, r.Facts)
		}
	}
}

type slowRow struct{ row }

func (s slowRow) Scan(dest ...any) error {
	time.Sleep(slowStore + time.Millisecond)
	return s.row.Scan(dest...)
}
func (s slowRow) QueryRow(context.Context, string, ...any) pgx.Row { return s }

func TestPostgreSQL_Slow(t *testing.T) {
	t.Parallel()
	r := PostgreSQL(slowRow{row{values: []any{"15.20", false, false, 1, 100, 3, time.Now()}}}).Check(t.Context())
	want{Degraded, "slow", "PostgreSQL needs "}.check(t, "slow", r)
	// As long as it was made to take, and not the time limit of a check.
	var took float64
	if _, err := fmt.Sscanf(r.Reason.String(), "PostgreSQL needs %f s", &took); err != nil || took < 0.5 || took >= 2 {
		t.Errorf("%q: %v s, %v", r.Reason, took, err)
	}
}

type fakeRedis struct {
	pong string
	err  error
}

func (f fakeRedis) Ping(ctx context.Context) *redis.StatusCmd {
	c := redis.NewStatusCmd(ctx)
	c.SetVal(f.pong)
	c.SetErr(f.err)
	return c
}

func (f fakeRedis) Info(ctx context.Context, _ ...string) *redis.StringCmd {
	c := redis.NewStringCmd(ctx)
	c.SetVal("# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:42\r\nused_memory_human:1.2M\r\n")
	return c
}

func TestRedis(t *testing.T) {
	for name, c := range map[string]struct {
		client fakeRedis
		want   want
	}{
		"up":           {fakeRedis{pong: "PONG"}, want{Up, "", "answers"}},
		"down":         {fakeRedis{err: errors.New("dial unix: no such file")}, want{Down, "unreachable", "Mail flows"}},
		"wrong server": {fakeRedis{pong: "HTTP/1.1 400"}, want{Down, "wrong_answer", "Mail flows"}},
		"no password":  {fakeRedis{err: errors.New("NOAUTH Authentication required.")}, want{NotAuthorised, "refused", "password"}},
		"bad password": {fakeRedis{err: errors.New("WRONGPASS invalid username-password pair")}, want{NotAuthorised, "refused", "password"}},
	} {
		component := Redis(c.client)
		if component.Effect != Weakens || component.Ready {
			t.Error("Redis must never stop mail")
		}
		r := component.Check(t.Context())
		c.want.check(t, name, r)
		if r.State == Up && r.Facts["version"] != "7.0.15" {
			t.Errorf("%s: facts %v", name, r.Facts)
		}
	}
}

func TestClamAV(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	at := func(age time.Duration) EngineInfo {
		return EngineInfo{Version: "ClamAV 1.4.6", Database: "27800", DatabaseTime: now.Add(-age)}
	}
	for name, c := range map[string]struct {
		info    EngineInfo
		err     error
		testSet bool
		want    want
	}{
		"fresh":           {at(3 * time.Hour), nil, false, want{Up, "", "3 hours old"}},
		"just in time":    {at(48 * time.Hour), nil, false, want{Up, "", ""}},
		"stale":           {at(49 * time.Hour), nil, false, want{Degraded, "stale_signatures", "2 days old"}},
		"very stale":      {at(400 * 24 * time.Hour), nil, false, want{Degraded, "stale_signatures", "400 days old"}},
		"limits":          {EngineInfo{Version: "ClamAV 1.4.6", Database: "1", DatabaseTime: now, Facts: map[string]string{"tells_limits": "false"}}, nil, false, want{Degraded, "limits_fail_open", "AlertExceedsMax yes"}},
		"test set":        {EngineInfo{Version: "ClamAV 1.4.6"}, nil, true, want{Degraded, "test_signatures", "no protection"}},
		"test set, dated": {at(time.Hour), nil, true, want{Degraded, "test_signatures", "only the EICAR"}},
		"local only":      {EngineInfo{Version: "ClamAV 1.4.6"}, nil, false, want{Degraded, "no_official_signatures", "only local"}},
		"from the future": {at(-72 * time.Hour), nil, false, want{Degraded, "future_signatures", "clocks"}},
		"clock skew":      {at(-time.Hour), nil, false, want{Up, "", ""}},
		"down":            {EngineInfo{}, errors.New("connection refused"), false, want{Down, "unreachable", "451"}},
		"down, test set":  {EngineInfo{}, errors.New("connection refused"), true, want{Down, "unreachable", "451"}},
	} {
		component := ClamAV(func(context.Context) (EngineInfo, error) { return c.info, c.err }, func() bool { return c.testSet }, func() time.Time { return now })
		c.want.check(t, name, component.Check(t.Context()))
	}
	never := ClamAV(func(context.Context) (EngineInfo, error) { return at(0), nil }, nil, func() time.Time { return now })
	want{Up, "", ""}.check(t, "no test set function", never.Check(t.Context()))
}

func TestScanner(t *testing.T) {
	info := EngineInfo{Version: "1.0", Facts: map[string]string{"rules": "12"}}
	for name, c := range map[string]struct {
		info  EngineInfo
		err   error
		probe ScanProbe
		want  want
	}{
		"up":           {info, nil, func(context.Context) error { return nil }, want{Up, "", "just scanned"}},
		"not probed":   {info, nil, nil, want{Up, "", "answers"}},
		"down":         {info, errors.New("no socket"), nil, want{Down, "unreachable", "451"}},
		"scans not":    {info, nil, func(context.Context) error { return errors.New("worker died") }, want{Down, "scan_failed", "451"}},
		"has no rules": {EngineInfo{Facts: map[string]string{"rules": "0"}}, nil, nil, want{Degraded, "no_rules", "yara_rules"}},
	} {
		check := func(context.Context) (EngineInfo, error) { return c.info, c.err }
		c.want.check(t, name, Scanner(check, c.probe).Check(t.Context()))
	}
	if info.Facts["version"] != "" {
		t.Error("the check wrote into the engine's own facts")
	}
}

func TestNextHopAndListener(t *testing.T) {
	hop := NextHop("10.0.0.5:25", func(_ context.Context, addr string) (Hop, error) {
		if addr != "10.0.0.5:25" {
			t.Errorf("asked %q", addr)
		}
		return Hop{}, errors.New("421 too busy")
	})
	want{Down, "unreachable", "10.0.0.5:25"}.check(t, "down", hop.Check(t.Context()))
	want{Up, "", ""}.check(t, "up", NextHop("x:25", func(context.Context, string) (Hop, error) { return Hop{}, nil }).Check(t.Context()))
	want{Degraded, "next_hop_warning", "b:25 is not used"}.check(t, "one of two", NextHop("route", func(context.Context, string) (Hop, error) {
		return Hop{Hosts: []string{"a:25: DSN", "b:25: gone"}, Warnings: HostUnused("b:25")}, nil
	}).Check(t.Context()))
	want{Up, "", ""}.check(t, "up", Listener(func() error { return nil }).Check(t.Context()))
	want{Down, "not_listening", "smtp.listen"}.check(t, "down", Listener(func() error { return errors.New("closed") }).Check(t.Context()))
}

func TestAudit(t *testing.T) {
	for name, c := range map[string]struct {
		status AuditStatus
		err    error
		want   want
	}{
		"up":             {AuditStatus{LastSeq: 9, GuardLevel: "full"}, nil, want{Up, "", "complete"}},
		"young events":   {AuditStatus{Unsequenced: 3, OldestAge: 4 * time.Second, GuardLevel: "full"}, nil, want{Up, "", ""}},
		"lag":            {AuditStatus{Unsequenced: 3, OldestAge: 6 * time.Second, GuardLevel: "full"}, nil, want{Degraded, "sequencer_lag", "6.0 s"}},
		"reduced":        {AuditStatus{GuardLevel: "reduced"}, nil, want{Degraded, "guard_reduced", "superuser"}},
		"attempts":       {AuditStatus{TamperAttempts: 2, GuardLevel: "full"}, nil, want{Degraded, "tamper_attempts", "2 attempts"}},
		"broken guard":   {AuditStatus{Findings: []string{"trigger gone"}, TamperAttempts: 2}, nil, want{Down, "guard_broken", "unseen"}},
		"not looked up":  {AuditStatus{}, errors.New("no connection"), want{Unknown, "lookup_failed", "PostgreSQL"}},
		"reduced or lag": {AuditStatus{GuardLevel: "reduced", Unsequenced: 1, OldestAge: time.Minute}, nil, want{Degraded, "sequencer_lag", ""}},
	} {
		component := Audit(func(context.Context) (AuditStatus, error) { return c.status, c.err })
		c.want.check(t, name, component.Check(t.Context()))
	}
	r := judgeAudit(AuditStatus{Findings: []string{"a", "b", "c", "d", "e", "f", "g"}})
	if r.Detail != "a; b; c; d; e; and 2 more" {
		t.Error(r.Detail)
	}
}

func TestDisk(t *testing.T) {
	const gib = 1 << 30
	stop := uint64(gib / 2)
	for name, c := range map[string]struct {
		disk diskSpace
		want want
	}{
		"plenty":             {diskSpace{free: 50 * gib, total: 100 * gib, inodes: 1e6, freeInodes: 1e5}, want{Up, "", "50.0 GiB of 100.0 GiB"}},
		"large disk":         {diskSpace{free: 6 * gib, total: 1000 * gib}, want{Up, "", ""}},
		"low":                {diskSpace{free: 4 * gib, total: 100 * gib}, want{Degraded, "low", "below 512 MiB"}},
		"small disk, enough": {diskSpace{free: 2 * gib, total: 10 * gib}, want{Up, "", ""}},
		"full":               {diskSpace{free: gib / 4, total: 100 * gib}, want{Down, "full", "452"}},
		"no inodes":          {diskSpace{free: 50 * gib, total: 100 * gib, inodes: 1e6, freeInodes: 10}, want{Down, "no_inodes", ""}},
		"read only":          {diskSpace{free: 50 * gib, total: 100 * gib, readOnly: true}, want{Down, "read_only", ""}},
	} {
		c.want.check(t, name, judgeDisk(c.disk, stop))
	}
	want{Up, "", ""}.check(t, "this disk", Disk(t.TempDir(), 1).Check(t.Context()))
	want{Down, "unreadable", "data_dir"}.check(t, "no folder", Disk(t.TempDir()+"/none", 1).Check(t.Context()))
}

func TestDeliveryQueue(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) any { return now.Add(-d) }
	for name, c := range map[string]struct {
		row  row
		want want
	}{
		"empty":      {row{values: []any{0, nil, nil}}, want{Up, "", "Nothing waits"}},
		"working":    {row{values: []any{3, ago(time.Minute), ago(time.Second)}}, want{Up, "", "3 waiting"}},
		"later":      {row{values: []any{3, ago(20 * time.Minute), ago(-time.Minute)}}, want{Up, "", ""}},
		"old":        {row{values: []any{3, ago(40 * time.Minute), ago(-time.Minute)}}, want{Degraded, "old", "40 min"}},
		"no worker":  {row{values: []any{3, ago(40 * time.Minute), ago(5 * time.Minute)}}, want{Degraded, "no_worker", "--only worker"}},
		"all leased": {row{values: []any{1, ago(time.Minute), nil}}, want{Up, "", ""}},
		"no lookup":  {row{err: errors.New("down")}, want{Unknown, "lookup_failed", ""}},
	} {
		c.want.check(t, name, DeliveryQueue(c.row, func() time.Time { return now }).Check(t.Context()))
	}
}

func TestWords(t *testing.T) {
	for d, w := range map[time.Duration]string{1500 * time.Millisecond: "1.5 s", 61 * time.Second: "61 s", 5 * time.Minute: "5 min", 3 * time.Hour: "3 hours", 80 * time.Hour: "3 days"} {
		if got := seconds(d); got != w {
			t.Errorf("%v: %q, want %q", d, got, w)
		}
	}
	for n, w := range map[uint64]string{512: "0 KiB", 3 << 20: "3 MiB", 5 << 30: "5.0 GiB", 2 << 40: "2.0 TiB"} {
		if got := size(n); got != w {
			t.Errorf("%d: %q, want %q", n, got, w)
		}
	}
}
