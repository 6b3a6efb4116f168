package quarantine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
)

var (
	coverageClaimSQL   = pg.Query(queryFiles, "coverage_claim")
	coveragePendingSQL = pg.Query(queryFiles, "coverage_pending")
	coverageDidSQL     = pg.Query(queryFiles, "coverage_did")
	coveragePutOffSQL  = pg.Query(queryFiles, "coverage_put_off")
	coverageEndSQL     = pg.Query(queryFiles, "coverage_end")
	deliveredSQL       = pg.Query(queryFiles, "delivered")
)

const (
	coverageLookEvery = 2 * time.Second
	// coverageLease is how long a process may be silent over a scan before another
	// goes on with it: longer than any mail takes.
	coverageLease = 5 * time.Minute
	// coverageTryAgain is when a scan goes on while an engine is silent.
	coverageTryAgain = time.Minute
	// coverageSilent is how many mails in a row without an answer mean that an engine
	// is silent still.
	coverageSilent = 5
	// coverageGiveUp is when one ends that cannot go on.
	coverageGiveUp = 24 * time.Hour
)

// Run does what was asked for, until ctx ends. Any number of processes may run it.
func (c *Coverage) Run(ctx context.Context) error {
	t := time.NewTicker(coverageLookEvery)
	defer t.Stop()
	for {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = c.Next(ctx); err != nil && ctx.Err() == nil {
				c.log.Error("scans of mail without an engine stand still", "error", err)
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// coverageJob is a scan that this process works on.
type coverageJob struct {
	id             uuid.UUID
	reason, author string
	created        time.Time
}

func (j coverageJob) actor() pg.Actor {
	return pg.System("coverage scan", "scan "+j.id.String()+", asked for by "+j.author)
}

// Next works on one scan, if one waits, as far as it comes.
func (c *Coverage) Next(ctx context.Context) (more bool, err error) {
	var j coverageJob
	err = c.s.db.Act(ctx, pg.System("coverage scan", "due scans"), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, coverageClaimSQL, coverageLease.Seconds()).Scan(&j.id, &j.reason, &j.author, &j.created)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("claim a scan: %w", err)
	}
	type pending struct {
		Number int
		Item   uuid.UUID
	}
	rows, err := c.s.db.Query(ctx, coveragePendingSQL, j.id)
	if err != nil {
		return false, fmt.Errorf("read mails of a scan: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[pending])
	if err != nil {
		return false, fmt.Errorf("read mails of a scan: %w", err)
	}
	left, inRow := 0, 0
	for _, it := range list {
		err := c.one(ctx, j, it.Number, it.Item)
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err == nil:
			inRow = 0
			continue
		}
		c.log.Warn("a mail is not scanned again yet", "scan", j.id, "item", it.Item, "error", err)
		// One mail that an engine never answers on holds up no other.
		if left, inRow = left+1, inRow+1; inRow == coverageSilent {
			break
		}
	}
	switch {
	case left == 0:
		return true, c.write(ctx, j, coverageEndSQL, j.id, "done", "")
	case c.s.now().Sub(j.created) > coverageGiveUp:
		return true, c.write(ctx, j, coverageEndSQL, j.id, "stopped", "engines")
	}
	return true, c.write(ctx, j, coveragePutOffSQL, j.id, coverageTryAgain.Seconds(), "engines")
}

func (c *Coverage) write(ctx context.Context, j coverageJob, sql string, args ...any) error {
	err := c.s.db.Act(pg.WithReason(ctx, j.reason), j.actor(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("note how scan %s goes: %w", j.id, err)
	}
	return nil
}

// one scans one mail. An error means that nothing is known of it: it stays to be
// done. Bytes that are gone or damaged are no error.
func (c *Coverage) one(ctx context.Context, j coverageJob, number int, id uuid.UUID) error {
	item, err := c.s.Get(ctx, id)
	if err != nil {
		return err
	}
	if c.s.engines == nil {
		return ErrEnginesSilent
	}
	r, err := c.s.scan(ctx, item)
	switch {
	case errors.Is(err, ErrGone), errors.Is(err, ErrBlobMissing):
		return c.write(ctx, j, coverageDidSQL, j.id, number, "gone", "", []byte("[]"), coverageLease.Seconds())
	case errors.Is(err, ErrBlobDamaged):
		return c.write(ctx, j, coverageDidSQL, j.id, number, "failed", "", []byte("[]"), coverageLease.Seconds())
	case err != nil:
		return err
	}
	var domains []string
	err = c.s.db.Act(pg.WithReason(ctx, j.reason), j.actor(), func(ctx context.Context, tx pgx.Tx) error {
		domains, err = c.note(ctx, tx, j, number, item, r)
		return err
	})
	if errors.Is(err, errTaken) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note what a scan found in item %s: %w", id, err)
	}
	if len(domains) > 0 {
		c.log.Error("a mail was delivered that is worse than it was decided as", "item", item.ID, "mail", item.MailID, "class", r.Class)
		c.late(item.Workspace, domains)
	}
	return nil
}

// note stores what the engines say now, with its events, and gives the domains of
// those who have a mail that is worse than was known.
func (c *Coverage) note(ctx context.Context, tx pgx.Tx, j coverageJob, number int, item Item, r Rescan) (domains []string, err error) {
	if _, err := lockRecipients(ctx, tx, item.ID); err != nil {
		return nil, err
	}
	state, found := "same", []policy.Finding{}
	class := item.Class
	if r.Worse {
		if state = "worse"; r.Findings != nil {
			found = r.Findings
		}
		class = policy.Gravest(class, r.Class)
	}
	text, err := marshal(found)
	if err != nil {
		return nil, fmt.Errorf("encode findings: %w", err)
	}
	tag, err := tx.Exec(ctx, coverageDidSQL, j.id, number, state, string(class), text, coverageLease.Seconds())
	if err != nil {
		return nil, err
	}
	if tag.RowsAffected() == 0 {
		return nil, errTaken
	}
	ev := rescanEvent(item, r, audit.Rescanned, j.actor())
	ev.Reason = j.reason
	if _, err := c.s.audit.Append(ctx, tx, ev); err != nil {
		return nil, err
	}
	if err := c.s.note(ctx, tx, item, r, false); err != nil || !r.Worse {
		return nil, err
	}
	return c.tellLate(ctx, tx, j, item, r)
}

// tellLate writes the event of a late hit, which names who has the mail and for
// how long. It is critical where somebody has: that nobody can take back.
func (c *Coverage) tellLate(ctx context.Context, tx pgx.Tx, j coverageJob, item Item, r Rescan) (domains []string, err error) {
	rows, err := tx.Query(ctx, deliveredSQL, item.MailID)
	if err != nil {
		return nil, fmt.Errorf("read who has the mail: %w", err)
	}
	ev := rescanEvent(item, r, audit.CoverageLate, j.actor())
	ev.Severity, ev.Reason = "warning", j.reason
	copies := map[string]any{}
	var address string
	var since, now time.Time
	_, err = pgx.ForEachRow(rows, []any{&address, &since, &now}, func() error {
		id := fmt.Sprintf("copy-%d", len(copies)+1) // addresses stand in the targets, where they can be erased
		_, domain, _ := cutLast(address, "@")
		ev.Targets = append(ev.Targets, audit.Target{Type: "mailbox", ID: id, Label: domain, PII: address})
		copies[id] = map[string]any{"out_since": since.UTC().Format(time.RFC3339), "out_for_seconds": int64(now.Sub(since).Seconds())}
		if domain = strings.ToLower(domain); !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read who has the mail: %w", err)
	}
	if ev.After["copies"] = copies; len(copies) > 0 {
		ev.Severity = "critical"
	}
	_, err = c.s.audit.Append(ctx, tx, ev)
	return domains, err
}
