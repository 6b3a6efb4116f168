package health

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestDKIM(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	good := Key{Name: "s1 of a.example", Active: true, Published: "yes"}
	for name, tt := range map[string]struct {
		keys  []Key
		state State
		code  string
	}{
		"good":                        {[]Key{good}, Up, ""},
		"the next one may be missing": {[]Key{good, {Name: "s2 of a.example", Published: "no", Reason: "no record"}}, Up, ""},
		"signs unpublished":           {[]Key{{Name: "s1", Active: true, Published: "no", Reason: "no record"}}, Degraded, "not_published"},
		"DNS never answered":          {[]Key{{Name: "s1", Active: true, Published: "unknown"}}, Degraded, "not_published"},
		"ends soon":                   {[]Key{{Name: "s1", Active: true, Published: "yes", NotAfter: now.Add(6 * 24 * time.Hour)}}, Degraded, "expires"},
		"ends later":                  {[]Key{{Name: "s1", Active: true, Published: "yes", NotAfter: now.Add(8 * 24 * time.Hour)}}, Up, ""},
		"one cannot be asked for":     {[]Key{good, {Name: "b.example", Missing: true, Reason: "OpenBao"}}, Degraded, "unknown"},
		"none":                        {nil, Down, "no_key"},
	} {
		r := DKIM(func(context.Context) []Key { return tt.keys }, func() time.Time { return now }).Check(context.Background())
		if r.State != tt.state || r.Code != tt.code || len(r.Reason) == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestOpenBao(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for name, tt := range map[string]struct {
		s     BaoStatus
		err   error
		state State
		code  string
	}{
		"good":    {BaoStatus{Version: "2", TokenExpires: time.Now()}, nil, Up, ""},
		"sealed":  {BaoStatus{Sealed: true}, nil, Down, "sealed"},
		"standby": {BaoStatus{Standby: true}, nil, Degraded, "standby"},
		"denied":  {BaoStatus{Denied: true}, away, NotAuthorised, "refused"},
		"away":    {BaoStatus{}, away, Down, "unreachable"},
	} {
		r := OpenBao(func(context.Context) (BaoStatus, error) { return tt.s, tt.err }).Check(context.Background())
		if r.State != tt.state || r.Code != tt.code || len(r.Reason) == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
