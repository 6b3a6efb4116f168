package health

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestSeal(t *testing.T) {
	t.Parallel()
	taken := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	good := Anchor{Name: "stamp", Kind: "tsa", LastOK: taken}
	failing := Anchor{Name: "auditor", Kind: "email", Failing: true, Detail: "no route"}
	late := Anchor{Name: "vault", Kind: "bucket", LastOK: taken, Late: true}
	held := Stream{Name: "syslog", Waiting: 7, OldestAge: 2 * time.Minute}
	for name, c := range map[string]struct {
		status SealStatus
		err    error
		want   want
	}{
		"good":                      {SealStatus{Anchors: []Anchor{good}, SignedAt: taken}, nil, want{Up, "", "others hold copies"}},
		"nobody outside":            {SealStatus{SignedAt: taken}, nil, want{Up, "no_anchor", "root on this machine"}},
		"a minute's events":         {SealStatus{Unsealed: 40, OldestAge: time.Minute, Anchors: []Anchor{good}}, nil, want{Up, "", ""}},
		"not signed for long":       {SealStatus{Unsealed: 40, OldestAge: 6 * time.Minute, Anchors: []Anchor{good}}, nil, want{Degraded, "seal_lag", "40 events are not sealed, the oldest for 6 min"}},
		"never signed":              {SealStatus{Unsealed: 3, OldestAge: time.Hour}, nil, want{Degraded, "seal_lag", "signing key"}},
		"refused goes before all":   {SealStatus{Refused: "older than its last checkpoint", Unsealed: 9, OldestAge: time.Hour, Anchors: []Anchor{failing}}, nil, want{Down, "refused", "mailward audit reanchor"}},
		"an anchor refuses":         {SealStatus{Anchors: []Anchor{good, failing}}, nil, want{Degraded, "anchor_failed", "auditor (email): no route"}},
		"an anchor is overdue":      {SealStatus{Anchors: []Anchor{good, late}}, nil, want{Degraded, "anchor_late", "vault (bucket) has last taken one on 2026-11-25 12:00"}},
		"refusing before overdue":   {SealStatus{Anchors: []Anchor{late, failing}}, nil, want{Degraded, "anchor_failed", ""}},
		"a stream is held":          {SealStatus{Anchors: []Anchor{good}, Streams: []Stream{held}}, nil, want{Degraded, "stream_lag", "syslog: 7 events wait"}},
		"a stream is a moment late": {SealStatus{Anchors: []Anchor{good}, Streams: []Stream{{Name: "syslog", Waiting: 1, OldestAge: time.Second}}}, nil, want{Up, "", ""}},
		"not looked up":             {SealStatus{}, errors.New("no connection"), want{Unknown, "lookup_failed", "PostgreSQL"}},
	} {
		component := Seal(func(context.Context) (SealStatus, error) { return c.status, c.err })
		r := component.Check(t.Context())
		c.want.check(t, name, r)
		if c.err == nil && r.Facts["unsealed_events"] == "" {
			t.Errorf("%s: facts %v", name, r.Facts)
		}
	}
	r := judgeSeal(SealStatus{Origin: "mx/audit", Size: 12, SignedAt: taken, Anchors: []Anchor{good, {Name: "new", Kind: "tsa"}}})
	for k, v := range map[string]string{"origin": "mx/audit", "sealed_events": "12", "sealed_at": "2026-11-25T12:00:00Z", "anchor_stamp": "tsa, last taken 2026-11-25T12:00:00Z", "anchor_new": "tsa, last taken never"} {
		if r.Facts[k] != v {
			t.Errorf("fact %s: %q, want %q", k, r.Facts[k], v)
		}
	}
	// When the guards were looked at last stands beside what was found.
	if a := judgeAudit(AuditStatus{GuardLevel: "full", CheckedAt: taken}); a.Facts["guard_checked_at"] != "2026-11-25T12:00:00Z" {
		t.Errorf("facts %v", a.Facts)
	}
}
