package health

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestFeed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		st    FeedStatus
		err   error
		state State
		code  string
		says  string
	}{
		"good":                {FeedStatus{Lag: 3 * time.Minute, Rows: 7}, nil, Up, "", "3 min ago"},
		"new":                 {FeedStatus{Never: true}, nil, Unknown, "unread", "not been read yet"},
		"failed once":         {FeedStatus{Code: "unreachable"}, nil, Degraded, "failed", "tried again"},
		"not believed":        {FeedStatus{Code: "shrunk", Alarm: true}, nil, Degraded, "needs_a_look", "does not get well by itself"},
		"down for long":       {FeedStatus{Code: "unreachable", Late: true, Lag: 5 * time.Hour}, nil, Down, "late", "5 hours ago. Mail flows and is judged by what the feed has said before"},
		"never, for long":     {FeedStatus{Code: "unreachable", Late: true, Never: true, Lag: 5 * time.Hour}, nil, Down, "late", "without what it knows"},
		"key refused":         {FeedStatus{Code: "not_authorised", Denied: true, Alarm: true, Late: true}, nil, NotAuthorised, "refused", "does not take our key"},
		"nobody can be asked": {FeedStatus{}, errors.New("away"), Unknown, "lookup_failed", "PostgreSQL"},
	} {
		c := Feed("urlhaus", func(context.Context) (FeedStatus, error) { return tt.st, tt.err })
		r := c.Check(context.Background())
		if r.State != tt.state || r.Code != tt.code || !strings.Contains(r.Reason.String(), tt.says) || c.Name != "cti:urlhaus" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
