package webui

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"mailward/audit"
	"mailward/gateway/whatif"
	"mailward/internal/pg"
	"mailward/policy"
)

// newTrial compares the policies in force with the same where one layer is
// another.
func newTrial(store *policy.Store, draft policy.Policy, sandbox bool) (whatif.Trial, error) {
	after, err := store.With(draft)
	return whatif.Trial{Before: store, After: after, Sandbox: sandbox}, err
}

// recordTrial puts on record that mail is read to try a policy, before it is.
func recordTrial(ctx context.Context, log interface {
	Record(context.Context, audit.Event) error
}, actor pg.Actor, roles []string, draft policy.Policy, about audit.Correlation) error {
	label := draft.Domain
	if draft.Group != uuid.Nil {
		label = "group " + draft.Group.String()
	}
	err := log.Record(ctx, audit.Event{Workspace: draft.Workspace, Action: audit.PolicyTry, Actor: actor, Roles: roles, Correlation: about, Severity: "info",
		Targets: []audit.Target{{Type: "policy", ID: draft.ID.String(), Label: label + " " + string(draft.Direction)}}})
	if err != nil {
		return fmt.Errorf("record the trial of a policy: %w", err)
	}
	return nil
}
