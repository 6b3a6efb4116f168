package quarantine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
)

// Gone says whether a copy may have reached its recipient.
func (r ItemRecipient) Gone() bool {
	return slices.Contains([]State{Delivering, ReleaseScheduled, Released, OutcomeUnknown}, r.State)
}

// SandboxLate puts on record that the sandbox calls an item malicious that was
// decided without that: each item once. gone says whether a copy is out.
func (s *Store) SandboxLate(ctx context.Context, tx pgx.Tx, actor pg.Actor, item Item, o SandboxOutcome) (told, gone bool, err error) {
	all, err := lockRecipients(ctx, tx, item.ID)
	if err != nil {
		return false, false, err
	}
	if told, gone, err = s.tellLate(ctx, tx, actor, item, all, o); err != nil || !told {
		return told, gone, err
	}
	if err := item.refresh(ctx, tx); err != nil {
		return told, gone, err
	}
	o.Class = policy.Gravest(o.Class, item.Class)
	return told, gone, s.addSandboxFindings(ctx, tx, item.ID, o)
}

// tellLate marks the item and writes the event, which names who has the mail and
// for how long. It is critical where a copy is out: that nobody can take back.
func (s *Store) tellLate(ctx context.Context, tx pgx.Tx, actor pg.Actor, item Item, copies []ItemRecipient, o SandboxOutcome) (told, gone bool, err error) {
	var now time.Time
	if err := tx.QueryRow(ctx, markLateSQL, item.ID).Scan(&now); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return false, false, nil
		}
		return false, false, fmt.Errorf("mark item as late: %w", err)
	}
	targets := []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(o.Class)}}
	states, severity := map[string]any{}, "warning"
	for _, r := range copies {
		targets = append(targets, audit.Target{Type: "quarantine_recipient", ID: r.ID.String(), Label: string(r.State), PII: r.Address})
		said := map[string]any{"state": string(r.State)}
		if r.Gone() {
			severity, gone = "critical", true
			said["out_since"], said["out_for_seconds"] = r.UpdatedAt.UTC().Format(time.RFC3339), int64(now.Sub(r.UpdatedAt).Seconds())
		}
		states[r.ID.String()] = said
	}
	names := []any{}
	for _, f := range o.Findings {
		names = append(names, f.Name)
	}
	_, err = s.audit.Append(ctx, tx, audit.Event{Action: audit.SandboxLate, Workspace: item.Workspace, Actor: actor, Severity: severity, Retention: audit.Retention3Years, ReasonCode: string(o.Verdict),
		Targets: targets, After: map[string]any{"verdict": string(o.Verdict), "found": names, "copies": states},
		Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}})
	return true, gone, err
}
