package approval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
)

// ErrRetention means that a change of what is kept cannot be.
var ErrRetention = errors.New("approval: events are kept for 90 to 3600 days, and a month is deleted by its name")

// What the database allows for a class (audit_retention).
const (
	MinKeepDays = 90
	MaxKeepDays = 3600
)

// RetentionChange is a new time for a class of events, or the deletion of a
// month whose time is over.
type RetentionChange struct {
	Class     string `json:"class,omitempty"`
	KeepDays  int    `json:"keep_days,omitempty"`
	Partition string `json:"partition,omitempty"` // the month, as audit.Purgeable names it
}

var partitionName = regexp.MustCompile(`^event_[a-z0-9_]{1,40}_[0-9]{4}_[0-9]{2}$`)

func (c RetentionChange) valid() bool {
	if c.Partition != "" {
		return c.Class == "" && c.KeepDays == 0 && partitionName.MatchString(c.Partition)
	}
	return c.Class != "" && c.KeepDays >= MinKeepDays && c.KeepDays <= MaxKeepDays
}

// detail is the change as its events and its request have it.
func (c RetentionChange) detail() map[string]any {
	if c.Partition != "" {
		return map[string]any{"partition": c.Partition}
	}
	return map[string]any{"class": c.Class, "keep_days": c.KeepDays}
}

func (c RetentionChange) target() audit.Target {
	if c.Partition != "" {
		return audit.Target{Type: "audit_partition", ID: c.Partition}
	}
	return audit.Target{Type: "audit_retention", ID: c.Class}
}

// ChangeRetention does a change where one person is enough; where the
// installation wants four eyes it waits for a second one, and waiting says so.
func (s *Store) ChangeRetention(ctx context.Context, actor pg.Actor, roles []string, c RetentionChange, reason string) (waiting bool, err error) {
	reason = strings.TrimSpace(reason)
	switch {
	case reason == "":
		return false, ErrReasonRequired
	case !c.valid():
		return false, ErrRetention
	}
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		mode, err := FourEyes(ctx, tx)
		if err != nil {
			return err
		}
		if waiting = mode == Required; waiting {
			_, err := s.Ask(ctx, tx, actor, roles, Ask{Kind: Retention, Action: audit.RetentionRequest, Detail: c.detail(), Targets: []audit.Target{c.target()}, Reason: reason})
			return err
		}
		_, err = s.record.Append(ctx, tx, audit.Event{Action: audit.RetentionExecute, Phase: "intent", Actor: actor, Roles: roles, Retention: audit.Retention3Years,
			Targets: []audit.Target{c.target()}, After: c.detail(), Reason: reason, Approval: &audit.Approval{Mode: SingleOperator, RequestedBy: actor.UserID.String(), RequestedAt: s.now()}})
		if err != nil {
			return err
		}
		return s.retain(ctx, tx, c, reason, nil)
	})
	return waiting, err
}

// DecideRetention is a second person's word on a change that waits; with it the
// change is done.
func (s *Store) DecideRetention(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, yes bool, comment string) error {
	comment = strings.TrimSpace(comment)
	action := audit.RetentionApprove
	if !yes {
		action = audit.RetentionDeny
	}
	return s.db.Act(pg.WithReason(ctx, comment), actor, func(ctx context.Context, tx pgx.Tx) error {
		p, err := s.Decide(ctx, tx, actor, roles, id, Word{Yes: yes, Comment: comment, Action: action})
		if err != nil || !yes {
			return err
		}
		var c RetentionChange
		if err := json.Unmarshal(p.Detail, &c); err != nil || p.Kind != Retention || !c.valid() {
			return ErrForged
		}
		return s.retain(ctx, tx, c, p.Reason, &p.ID)
	})
}

func (s *Store) retain(ctx context.Context, tx pgx.Tx, c RetentionChange, reason string, approval *uuid.UUID) error {
	if c.Partition != "" {
		_, err := s.record.PurgeIn(ctx, tx, c.Partition, reason, approval)
		return err
	}
	ok, err := s.record.SetRetention(ctx, tx, c.Class, c.KeepDays)
	if err == nil && !ok {
		return fmt.Errorf("%w: no class %q", ErrNotFound, c.Class)
	}
	return err
}

// storedComment is what the row of an approval keeps of the second person's
// words: for the deletion of a month its name, which audit.purge_month compares.
// The words themselves stand in the event.
func storedComment(p Pending, w Word) string {
	var c RetentionChange
	if p.Kind == Retention && w.Yes && json.Unmarshal(p.Detail, &c) == nil && c.Partition != "" {
		return c.Partition
	}
	return w.Comment
}
