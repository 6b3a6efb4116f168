package quarantine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
)

var (
	insertReportSQL = pg.Query(queryFiles, "insert_report")
	reportsSQL      = pg.Query(queryFiles, "reports")
)

// Mistake says that an item was held by mistake.
type Mistake struct {
	ID       uuid.UUID    `json:"id"`
	Item     uuid.UUID    `json:"item_id"`
	Class    policy.Class `json:"class"`
	Reason   string       `json:"reason"`
	Reporter string       `json:"reporter"`
	Entry    *uuid.UUID   `json:"entry_id,omitempty" doc:"the exception that was made with it"`
	At       time.Time    `json:"created_at"`
}

// FalsePositive puts on record that an item was held by mistake, with what the
// engines said, for whoever mends them. entry is the exception that was made with
// it; the zero id is none.
func (s *Store) FalsePositive(ctx context.Context, actor pg.Actor, roles []string, item Item, reason string, entry uuid.UUID) error {
	if reason = strings.TrimSpace(clean(reason)); reason == "" {
		return ErrReasonRequired
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make report id: %w", err)
	}
	findings, err := marshal(item.Findings)
	if err != nil {
		return fmt.Errorf("encode findings: %w", err)
	}
	var made, person *uuid.UUID
	if entry != uuid.Nil {
		made = &entry
	}
	if actor.UserID != uuid.Nil {
		person = &actor.UserID
	}
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertReportSQL, id, item.Workspace, item.ID, string(item.Class), findings, reason, person, actor.Email, made); err != nil {
			return fmt.Errorf("store report: %w", err)
		}
		ev := audit.Event{Action: audit.FalsePositive, Workspace: item.Workspace, Actor: actor, Roles: roles, Reason: reason, ReasonCode: "false_positive", Retention: audit.Retention3Years,
			Targets:     []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}, {Type: "false_positive", ID: id.String()}},
			Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}}
		if made != nil {
			ev.Targets = append(ev.Targets, audit.Target{Type: "policy_entry", ID: made.String()})
		}
		_, err := s.audit.Append(ctx, tx, ev)
		return err
	})
	if err != nil {
		return fmt.Errorf("report item %s as held by mistake: %w", item.ID, err)
	}
	return nil
}

// Mistakes lists who said that an item was held by mistake.
func (s *Store) Mistakes(ctx context.Context, item uuid.UUID) ([]Mistake, error) {
	rows, err := s.db.Query(ctx, reportsSQL, item)
	if err != nil {
		return nil, fmt.Errorf("read reports: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Mistake])
}
