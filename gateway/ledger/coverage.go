package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var coverageSQL = pg.Query(queryFiles, "coverage")

// Gap is a stretch of time in which mails were decided without an engine.
type Gap struct {
	Engine   string    `json:"engine"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Mails    int       `json:"mails"`
	PutOff   int       `json:"put_off"`  // answered 451; they came again and were then scanned, or never came
	Held     int       `json:"held"`     // kept here, at least for some recipients: they can be looked at again
	Rejected int       `json:"rejected"` // nobody has them
	Passed   int       `json:"passed"`   // with their recipients, and not kept here
}

// Coverage lists which engines were missing when mails were decided, the latest
// stretch first.
func (l *Ledger) Coverage(ctx context.Context, workspaces []uuid.UUID, from, to time.Time) ([]Gap, error) {
	rows, err := l.db.Query(ctx, coverageSQL, pg.PlanAnew, workspaces, from, to)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Gap])
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	return list, nil
}
