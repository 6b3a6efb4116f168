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
	const meaning = "Mail flows and is judged by what the feed has said before, until that expires."
	return Component{
		Name: "cti:" + name, Title: "Threat feed " + name, Group: "engines", Effect: Weakens, Meaning: meaning,
		Check: func(ctx context.Context) Result {
			st, err := look(ctx)
			if err != nil {
				return Result{State: Unknown, Code: "lookup_failed", Detail: err.Error(), Reason: "The feed cannot be looked up. Check PostgreSQL first."}
			}
			return judgeFeed(name, st, meaning)
		},
	}
}

func judgeFeed(name string, st FeedStatus, meaning string) Result {
	r := Result{State: Up, Detail: st.Problem, Facts: map[string]string{"lag_minutes": fmt.Sprintf("%.0f", st.Lag.Minutes()), "rows": fmt.Sprint(st.Rows)}}
	if !st.LastGood.IsZero() {
		r.Facts["last_good_at"] = st.LastGood.UTC().Format(time.RFC3339)
	}
	switch {
	case st.Denied:
		r.State, r.Code, r.Reason = NotAuthorised, "refused", "The feed "+name+" answers but does not take our key. "+meaning+" Check the key in intel.feeds."
	case st.Late:
		r.State, r.Code, r.Reason = Down, "late", fmt.Sprintf("The feed %s was last read well %s ago. %s", name, seconds(st.Lag), meaning)
		if st.Never {
			r.Reason = fmt.Sprintf("The feed %s has not been read well since it was set up %s ago. Mail flows without what it knows.", name, seconds(st.Lag))
		}
	case st.Code != "" && st.Alarm:
		r.State, r.Code, r.Reason = Degraded, "needs_a_look", "The last answer of the feed "+name+" was not taken, and that does not get well by itself. "+meaning+" Look at it under Threat intel, Feeds."
	case st.Code != "":
		r.State, r.Code, r.Reason = Degraded, "failed", "The last run of the feed "+name+" failed; it is tried again. "+meaning
	case st.Never:
		r.State, r.Code, r.Reason = Unknown, "unread", "The feed "+name+" has not been read yet."
	default:
		r.Reason = fmt.Sprintf("The feed %s was read %s ago.", name, seconds(st.Lag))
	}
	return r
}
