package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"mailward/audit/proof"
)

// VerifyResult says how far the record was checked.
type VerifyResult struct {
	Events  int64
	Problem string // empty: none found
}

// verified is one row of what is checked.
type verified struct {
	seq                      *int64
	id                       string
	leaf, bytes              []byte
	recorded                 *time.Time
	action, actorID, outcome *string
	protocol                 *string // of the event's deletion
	astray                   *bool   // null where the event is gone
}

// Verify recomputes every leaf from the stored bytes, and checks that the
// sequence has no gap, that no event is outside of it, that the columns that
// are searched say what the bytes say, and that what was deleted when its time was
// over is what the protocols tell of. It names the first event that does not fit.
func (l *Log) Verify(ctx context.Context) (VerifyResult, error) {
	return l.VerifyTold(ctx, func(int64) {})
}

// VerifyTold is Verify that tells how many events it has checked, now and then.
func (l *Log) VerifyTold(ctx context.Context, tell func(events int64)) (VerifyResult, error) {
	var res VerifyResult
	release, err := l.HoldMonths(ctx)
	if err != nil {
		return res, err
	}
	defer release()
	gone, err := l.deletions(ctx)
	if err != nil {
		return res, err
	}
	rows, err := l.db.Query(ctx, verifySQL)
	if err != nil {
		return res, fmt.Errorf("read audit: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var v verified
		if err := rows.Scan(&v.seq, &v.id, &v.leaf, &v.recorded, &v.bytes, &v.action, &v.actorID, &v.outcome, &v.protocol, &v.astray); err != nil {
			return res, fmt.Errorf("read audit: %w", err)
		}
		if res.Problem = v.problem(res.Events); res.Problem != "" {
			return res, nil
		}
		if v.protocol != nil {
			gone.take(*v.seq, v.leaf, *v.protocol)
		}
		if res.Events++; res.Events%500 == 0 {
			tell(res.Events)
		}
	}
	if err := rows.Err(); err != nil {
		return res, fmt.Errorf("read audit: %w", err)
	}
	if res.Problem = gone.problem(); res.Problem == "" {
		res.Problem, err = l.lostValues(ctx)
	}
	return res, err
}

// lostValues says whether values of who acted, and from where, are gone without an
// erasure on record. Events commit to the values, and so stay as they were.
func (l *Log) lostValues(ctx context.Context) (problem string, err error) {
	var n int64
	var first string
	if err := l.db.QueryRow(ctx, lostValuesSQL).Scan(&n, &first); err != nil {
		return "", fmt.Errorf("look for lost personal values: %w", err)
	}
	if n > 0 {
		problem = fmt.Sprintf("%d values of who acted or from where are gone without an erasure on record, the first from event %s", n, first)
	}
	return problem, nil
}

func (v verified) problem(want int64) string {
	switch {
	case v.seq == nil:
		return fmt.Sprintf("event %s was put in without a number", v.id)
	case *v.seq != want:
		return fmt.Sprintf("number %d is missing", want)
	case v.protocol != nil:
		return ""
	case v.recorded == nil:
		return fmt.Sprintf("event %s (number %d) is gone", v.id, *v.seq)
	case proof.Leaf(*v.seq, *v.recorded, v.bytes) != [32]byte(v.leaf):
		return fmt.Sprintf("event %s (number %d) was changed", v.id, *v.seq)
	}
	var e struct {
		ID     string `json:"id"`
		Action string `json:"action"`
		Actor  struct {
			ID string `json:"id"`
		} `json:"actor"`
		Outcome struct {
			Result string `json:"result"`
		} `json:"outcome"`
	}
	if err := json.Unmarshal(v.bytes, &e); err != nil {
		return fmt.Sprintf("event %s (number %d) is not readable: %v", v.id, *v.seq, err)
	}
	if e.ID != v.id || v.action == nil || e.Action != *v.action || v.actorID == nil || e.Actor.ID != *v.actorID || v.outcome == nil || e.Outcome.Result != *v.outcome || v.astray == nil || *v.astray {
		return fmt.Sprintf("event %s (number %d) is found under other words than it says", v.id, *v.seq)
	}
	return ""
}
