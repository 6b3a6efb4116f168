package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
)

// BySandbox is the mode of a release that no person decided on: the sandbox
// found nothing, and the policy says what follows from that.
const BySandbox = "sandbox"

// SandboxQueue asks the sandbox about held mail. Held is called in the
// transaction that stores the item, so that no mail is held without a question.
type SandboxQueue interface {
	Held(ctx context.Context, tx pgx.Tx, item uuid.UUID, h Hold) error
	Send(ctx context.Context, actor pg.Actor, roles []string, item Item, reason string) error
}

// Errors of what a person asks the sandbox.
var (
	ErrNoSandbox    = errors.New("quarantine: no sandbox is set up")
	ErrNothingToRun = errors.New("quarantine: the mail has no file that a sandbox could run")
)

// HasSandbox says whether there is somebody to ask.
func (s *Store) HasSandbox() bool { return s.sandbox != nil }

// SendToSandbox asks the sandbox about the files of an item because a person
// wants to know. Nothing is released by the answer.
func (s *Store) SendToSandbox(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, reason string) (Item, error) {
	if s.sandbox == nil {
		return Item{}, ErrNoSandbox
	}
	item, err := s.Get(ctx, id)
	if err != nil {
		return item, err
	}
	if err := s.sandbox.Send(ctx, actor, roles, item, reason); err != nil {
		return item, err
	}
	return s.Get(ctx, id)
}

// UseSandbox makes q hear of each mail that is held for the sandbox. It is
// called before the first mail.
func (s *Store) UseSandbox(q SandboxQueue) { s.sandbox = q }

// askSandbox hands a mail to the sandbox's queue where a copy of it waits for
// the verdict.
func (s *Store) askSandbox(ctx context.Context, tx pgx.Tx, item uuid.UUID, h Hold) error {
	if s.sandbox == nil {
		return nil
	}
	for _, r := range h.Recipients {
		if r.Action == policy.Hold {
			return s.sandbox.Held(ctx, tx, item, h)
		}
	}
	return nil
}

// SandboxPart is what the sandbox was asked about one file of an item.
type SandboxPart struct {
	SHA256     string                `json:"sha256"`
	Name       string                `json:"name"`
	Path       string                `json:"path"`
	State      string                `json:"state" enum:"queued,submitting,submitted,finished,skipped,given_up"`
	Verdict    policy.SandboxVerdict `json:"verdict" enum:",clean,suspicious,malicious,none"` // empty: not there yet
	Score      float64               `json:"score"`
	Family     string                `json:"family,omitempty"`
	Signatures []SandboxSignature    `json:"signatures" nullable:"false"`
	Error      string                `json:"error,omitempty"`
	Since      time.Time             `json:"since"`
	Deadline   time.Time             `json:"deadline"`
	DecidedAt  *time.Time            `json:"decided_at,omitempty"`
}

// SandboxSignature is one thing that a file did.
type SandboxSignature struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Severity    int    `json:"severity"`
}

func (s *Store) sandboxParts(ctx context.Context, item uuid.UUID) ([]SandboxPart, error) {
	rows, err := s.db.Query(ctx, sandboxPartsSQL, item)
	if err != nil {
		return nil, fmt.Errorf("read sandbox parts: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p SandboxPart, err error) {
		var signatures []byte
		if err = row.Scan(&p.SHA256, &p.Name, &p.Path, &p.State, &p.Verdict, &p.Score, &p.Family, &signatures, &p.Error, &p.Since, &p.Deadline, &p.DecidedAt); err != nil {
			return p, err
		}
		return p, json.Unmarshal(signatures, &p.Signatures)
	})
}

// SandboxOutcome is what the sandbox's queue has come to for one item.
type SandboxOutcome struct {
	Verdict  policy.SandboxVerdict
	Class    policy.Class // that the item has from now on
	Findings []policy.Finding
	Reasons  []string
	// Decide says what is done with each copy that waits, by the policies of now.
	Decide func(copies []ItemRecipient) []policy.RecipientDecision
}

// SandboxDecided carries an outcome out, in the queue's transaction: copies that
// still wait are released, stay, or are kept. What a person has done with a copy
// meanwhile is not touched. The event says what came of it. late says that it is
// malicious and a copy is out already: somebody asked after that.
func (s *Store) SandboxDecided(ctx context.Context, tx pgx.Tx, actor pg.Actor, item Item, o SandboxOutcome) (late bool, err error) {
	all, err := lockRecipients(ctx, tx, item.ID)
	if err != nil {
		return false, err
	}
	if o.Verdict == policy.SandboxMalicious && slices.ContainsFunc(all, ItemRecipient.Gone) {
		if late, _, err = s.tellLate(ctx, tx, actor, item, all, o); err != nil {
			return late, err
		}
	}
	// What it is decided by was read before the lock: a scan may have found worse.
	was := item.Class
	if err := item.refresh(ctx, tx); err != nil {
		return late, err
	}
	worse := item.StoppedAt != nil || policy.Graver(item.Class, was)
	o.Class = policy.Gravest(o.Class, item.Class)
	var waiting, release []ItemRecipient
	var keep []uuid.UUID
	for _, r := range all {
		if r.State == Held {
			waiting = append(waiting, r)
		}
	}
	done := map[string]any{}
	for i, d := range o.Decide(waiting) {
		if worse && d.Action == policy.Deliver {
			d.Action, d.Why = policy.Quarantine, "another scan has found "+string(item.Class)+" meanwhile"
		}
		done[waiting[i].ID.String()] = string(d.Action) + ": " + d.Why
		switch d.Action {
		case policy.Deliver:
			release = append(release, waiting[i])
		case policy.Hold: // stays as it is
		default:
			keep = append(keep, waiting[i].ID)
		}
	}
	if err := s.addSandboxFindings(ctx, tx, item.ID, o); err != nil {
		return late, err
	}
	_, err = s.audit.Append(ctx, tx, audit.Event{Action: audit.SandboxVerdict, Workspace: item.Workspace, Actor: actor, Retention: audit.Retention3Years, ReasonCode: string(o.Verdict),
		Targets: []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(o.Class)}}, After: map[string]any{"verdict": string(o.Verdict), "copies": done},
		Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}})
	if err != nil {
		return late, err
	}
	if len(release) > 0 {
		if err := s.releaseBySandbox(ctx, tx, actor, item, release); err != nil {
			return late, err
		}
	}
	if len(keep) == 0 {
		return late, nil
	}
	return late, setStates(ctx, tx, item.ID, keep, Quarantined)
}

func (s *Store) addSandboxFindings(ctx context.Context, tx pgx.Tx, item uuid.UUID, o SandboxOutcome) error {
	findings, err := marshal(o.Findings)
	if err != nil {
		return fmt.Errorf("encode findings: %w", err)
	}
	reasons, err := marshal(o.Reasons)
	if err != nil {
		return fmt.Errorf("encode reasons: %w", err)
	}
	terms, words := findingTerms(o.Findings)
	if terms == nil {
		terms = []string{}
	}
	if _, err := tx.Exec(ctx, addSandboxFindingsSQL, item, string(o.Class), findings, reasons, terms, words); err != nil {
		return fmt.Errorf("add findings of the sandbox: %w", err)
	}
	return nil
}

// releaseBySandbox writes the same rows as a person's release, so that there is
// one way out. Its event is System's, which the worker checks before it sends.
func (s *Store) releaseBySandbox(ctx context.Context, tx pgx.Tx, actor pg.Actor, item Item, chosen []ItemRecipient) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make release id: %w", err)
	}
	const reason = "decided by the verdict of the sandbox"
	rel := release{ID: id, Item: item.ID, Mode: BySandbox, State: "approved", Class: item.Class, prior: map[uuid.UUID]State{}}
	targets := []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}, {Type: "release", ID: id.String()}}
	for _, r := range chosen {
		rel.Recipients, rel.prior[r.ID] = append(rel.Recipients, r.ID), r.State
		targets = append(targets, audit.Target{Type: "quarantine_recipient", ID: r.ID.String(), PII: r.Address})
	}
	rel.Intent, err = s.audit.Append(ctx, tx, audit.Event{Action: audit.SandboxRelease, Phase: "intent", Workspace: item.Workspace, Actor: actor, Targets: targets,
		Reason: reason, Retention: audit.Retention3Years, Approval: &audit.Approval{Mode: BySandbox, Approvers: []string{}},
		Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}})
	if err != nil {
		return err
	}
	if err := s.insertRelease(ctx, tx, item, rel, uuid.Nil, ReleaseRequest{Reason: reason}, false); err != nil {
		return err
	}
	if err := s.queue(ctx, tx, rel, chosen, 0); err != nil {
		return err
	}
	return setStates(ctx, tx, item.ID, rel.Recipients, ReleaseScheduled)
}
