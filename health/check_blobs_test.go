package health

import (
	"testing"
	"time"
)

func TestJudgeBlobs(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		s     BlobStatus
		state State
		code  string
	}{
		"well":            {BlobStatus{SweptAt: now.Add(-time.Hour)}, Up, ""},
		"new":             {BlobStatus{}, Up, ""},
		"full":            {BlobStatus{FailingSince: now, Full: true, Trouble: "no space", Missing: 3}, Down, "full"},
		"OpenBao away":    {BlobStatus{FailingSince: now, Trouble: "sealed"}, Down, "unwritable"},
		"key lost":        {BlobStatus{UnknownKeys: []string{"local:00"}}, Down, "key_missing"},
		"bytes gone":      {BlobStatus{Missing: 1, MissingSince: now}, Degraded, "missing"},
		"wrong database":  {BlobStatus{Refused: 1000}, Degraded, "orphans"},
		"sweep failed":    {BlobStatus{SweepTrouble: "x"}, Degraded, "sweep_failed"},
		"nobody sweeps":   {BlobStatus{SweptAt: now.Add(-4 * time.Hour)}, Degraded, "sweep_late"},
		"sweep takes its": {BlobStatus{SweptAt: now.Add(-2 * time.Hour)}, Up, ""},
	} {
		r := judgeBlobs(tt.s, now)
		if r.State != tt.state || r.Code != tt.code || len(r.Reason) == 0 || r.Detail != tt.s.Trouble && tt.state == Down && r.Code != "key_missing" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
