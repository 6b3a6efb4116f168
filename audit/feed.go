package audit

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var feedGoneSQL = pg.Query(queryFiles, "feed_gone")

// feedWindow is how many numbers one page of the feed looks at, so that a
// filter that selects next to nothing still answers at once.
const feedWindow = 20000

// FeedPage is one step through the feed.
type FeedPage struct {
	Items []Row
	// Next is the number that the next page begins with. All events that the
	// filter selects with lower numbers have been handed out.
	Next int64
	// Head is the number that the next event will get.
	Head int64
	// Gone are the numbers between the page's beginning and Next whose events are
	// not there any more. Only for those who read everything without a filter.
	Gone []GoneRun
}

// GoneRun is a run of numbers without events.
type GoneRun struct {
	First int64 `json:"first_seq"`
	Last  int64 `json:"last_seq"`
	// Protocol is the event of the deletion that retention asked for; nil: there
	// was none, so somebody took the events away.
	Protocol *uuid.UUID `json:"protocol"`
}

// Feed reads events by their numbers, oldest first, from the number next on.
// It is made for programs that copy the audit:
//
//   - Only numbered events are shown. The sequencer numbers an event after its
//     commit, without gaps and one batch after the other, so an event that
//     commits late gets a high number and is never behind a reader.
//   - Next moves over all numbers that were looked at, also over those that the
//     filter leaves out: the pages of any filter fit together without a gap.
//   - Without a filter and as somebody who may read everything, every number from
//     the page's beginning to Next is the number of an item or stands in Gone, with
//     the protocol of its lawful deletion. Anything else is a gap.
//
// Of the filter, the workspaces, Action, Outcome and Limit count.
func (l *Log) Feed(ctx context.Context, next int64, f Filter) (FeedPage, error) {
	if next < 0 {
		return FeedPage{}, ErrBadCursor
	}
	if err := f.Check(); err != nil {
		return FeedPage{}, err
	}
	if f.Limit <= 0 {
		f.Limit = 500
	}
	f.Limit = min(f.Limit, 1000)
	s, err := l.Status(ctx)
	if err != nil {
		return FeedPage{}, fmt.Errorf("read head of audit feed: %w", err)
	}
	// After the head, so that no name is younger than the list of names.
	actions, err := l.actions(ctx, f.Action)
	if err != nil {
		return FeedPage{}, err
	}
	p := FeedPage{Next: next, Head: s.LastSeq + 1}
	end := min(next+feedWindow, p.Head)
	if end <= next {
		return p, nil
	}
	rows, err := l.db.Query(ctx, feedSQL, pg.PlanAnew, next, end, f.Workspaces, !f.NoInstallation, actions, clean(f.Outcome), f.Limit)
	if err != nil {
		return p, fmt.Errorf("read audit feed: %w", err)
	}
	if p.Items, err = pgx.CollectRows(rows, scanRow); err != nil {
		return p, fmt.Errorf("read audit feed: %w", err)
	}
	p.Next = end
	if len(p.Items) == f.Limit {
		p.Next = *p.Items[len(p.Items)-1].Seq + 1
	}
	if int64(len(p.Items)) < p.Next-next && f.Workspaces == nil && !f.NoInstallation && actions == nil && f.Outcome == "" {
		if p.Gone, err = l.gone(ctx, next, p.Next); err != nil {
			return p, err
		}
	}
	return p, l.resolve(ctx, p.Items)
}

func (l *Log) gone(ctx context.Context, from, end int64) ([]GoneRun, error) {
	rows, err := l.db.Query(ctx, feedGoneSQL, from, end)
	if err != nil {
		return nil, fmt.Errorf("read gaps of audit feed: %w", err)
	}
	runs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[GoneRun])
	if err != nil {
		return nil, fmt.Errorf("read gaps of audit feed: %w", err)
	}
	return runs, nil
}
