package health

import (
	"context"
	"fmt"
	"time"
)

// FeedStatus is how one feed of threat intelligence fares.
type FeedStatus struct {
	Lag      time.Duration // since the last good run, or since the feed is there
	Late     bool
	Never    bool // no good run yet
	Rows     int64
	Code     string // of the last failure; "": the last run went well
	Problem  string
	Denied   bool // the server does not take our key
	Alarm    bool // it does not get well by itself
	LastGood time.Time
}

// Feed checks one feed. It does not ask the feed's server, which wants to be
// asked seldom: it looks at how the last run went.
func Feed(name string, look func(context.Context) (FeedStatus, error)) Component {
	meaning := say("m.feed")
	return Component{
		Name: "cti:" + name, Title: "Threat feed " + name, Group: "engines", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			st, err := look(ctx)
			if err != nil {
				return Result{State: Unknown, Code: "lookup_failed", Detail: err.Error(), Reason: say("feed.lookup")}
			}
			return judgeFeed(name, st, meaning)
		},
	}
}

func judgeFeed(name string, st FeedStatus, meaning Text) Result {
	r := Result{State: Up, Detail: st.Problem, Facts: map[string]string{"lag_minutes": fmt.Sprintf("%.0f", st.Lag.Minutes()), "rows": fmt.Sprint(st.Rows)}}
	if !st.LastGood.IsZero() {
		r.Facts["last_good_at"] = st.LastGood.UTC().Format(time.RFC3339)
	}
	switch {
	case st.Denied:
		r.State, r.Code, r.Reason = NotAuthorised, "refused", say("feed.refused", plain(name)).with(meaning).and("feed.refused.do")
	case st.Late:
		r.State, r.Code, r.Reason = Down, "late", say("feed.late", plain(name), span(st.Lag)).with(meaning)
		if st.Never {
			r.Reason = say("feed.never", plain(name), span(st.Lag))
		}
	case st.Code != "" && st.Alarm:
		r.State, r.Code, r.Reason = Degraded, "needs_a_look", say("feed.look", plain(name)).with(meaning).and("feed.look.do")
	case st.Code != "":
		r.State, r.Code, r.Reason = Degraded, "failed", say("feed.failed", plain(name)).with(meaning)
	case st.Never:
		r.State, r.Code, r.Reason = Unknown, "unread", say("feed.unread", plain(name))
	default:
		r.Reason = say("feed.ok", plain(name), span(st.Lag))
	}
	return r
}
