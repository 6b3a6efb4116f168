package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
)

// The ways in which a release needs other people.
const (
	SingleOperator = approval.SingleOperator
	Required       = approval.Required
	OnePerson      = "one_person" // the class of the mail takes no second one
	ByRecipient    = "recipient"  // by a link of a digest, which the rules of the class allow
)

// ReasonCodes are what a reason can be counted under.
func ReasonCodes() []string {
	return []string{"false_positive", "business_need", "sender_confirmed", "recipient_request", "test", "other"}
}

// ReleaseRequest is what a person wants released.
type ReleaseRequest struct {
	Reason     string
	Code       string   // one of [ReasonCodes]; "": other
	Recipients []string // addresses; none here and in Others: all that can be released
	Others     []string // further addresses, of domains that the workspace serves
	Insist     bool     // although a scan at an earlier release stopped it
	Again      bool     // also copies of which nobody knows whether they arrived
	// AskedBy is the recipient who acts by a link of a digest, who gets this one
	// copy. Ask has such a release wait for a person. AskedAs is the class by which
	// that was decided: a mail that is of another one by now is not released.
	AskedBy uuid.UUID
	Ask     bool
	AskedAs policy.Class
}

func (r *ReleaseRequest) check() error {
	r.Reason = strings.TrimSpace(clean(r.Reason))
	if r.Reason == "" {
		return ErrReasonRequired
	}
	if r.Code == "" {
		r.Code = "other"
	}
	if !slices.Contains(ReasonCodes(), r.Code) {
		return ErrReasonCode
	}
	return nil
}

// FourEyes reads the installation's setting.
func (s *Store) FourEyes(ctx context.Context) (string, error) { return approval.FourEyes(ctx, s.db) }

// Release puts a person's decision on record and, where one person is enough,
// hands the mail to the delivery queue, which begins with it after the time in
// which it can be taken back; otherwise it waits for a second person. The rows
// of the recipients are locked, so that of two clicks one wins and the other
// gets [ErrState].
func (s *Store) Release(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, req ReleaseRequest) (Item, error) {
	if err := req.check(); err != nil {
		return Item{}, err
	}
	item, err := s.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	others, err := s.checkOthers(item, req.Others)
	if err != nil {
		return Item{}, err
	}
	err = s.db.Act(pg.WithWhy(ctx, pg.Why{Text: req.Reason, Code: req.Code}), actor, func(ctx context.Context, tx pgx.Tx) error {
		// What was read before the lock may be over. All changes of an item lock its
		// recipients first.
		if _, err := lockRecipients(ctx, tx, id); err != nil {
			return err
		}
		if err := item.refresh(ctx, tx); err != nil {
			return err
		}
		switch {
		case item.BlobRemovedAt != nil:
			return ErrGone
		case item.StoppedAt != nil && !req.Insist:
			return ErrStopped
		case req.AskedBy != uuid.Nil && req.AskedAs != item.Class:
			return ErrState
		}
		rel, chosen, err := s.newRelease(ctx, tx, item, others, req)
		if err != nil {
			return err
		}
		return s.writeRelease(ctx, tx, actor, roles, item, rel, chosen, req)
	})
	if err != nil {
		return Item{}, fmt.Errorf("release item %s: %w", id, err)
	}
	return s.Get(ctx, id)
}

// refresh reads what of an item others may have changed since it was read. The caller
// holds the lock of its recipients.
func (i *Item) refresh(ctx context.Context, tx pgx.Tx) error {
	if err := tx.QueryRow(ctx, itemNowSQL, i.ID).Scan(&i.Class, &i.BlobRemovedAt, &i.StoppedAt); err != nil {
		return fmt.Errorf("read item: %w", err)
	}
	return nil
}

// newRelease makes a release of what is asked for, by the rules of its class.
func (s *Store) newRelease(ctx context.Context, tx pgx.Tx, item Item, others []string, req ReleaseRequest) (release, []ItemRecipient, error) {
	chosen, err := s.lockAndChoose(ctx, tx, item, others, req)
	if err != nil {
		return release{}, nil, err
	}
	rule, err := releaseRule(ctx, tx, item.Workspace, item.Class)
	if err != nil {
		return release{}, nil, err
	}
	rel := release{Item: item.ID, Mode: rule.Mode, Class: item.Class, Again: req.Again}
	if req.AskedBy != uuid.Nil {
		rel.AskedBy = &req.AskedBy
		if rel.Mode = ByRecipient; req.Ask {
			rel.Mode = Required
		}
	}
	if rel.ID, err = uuid.NewV7(); err != nil {
		return rel, nil, fmt.Errorf("make release id: %w", err)
	}
	rel.State = "approved"
	if rel.Mode == Required {
		end := s.now().Add(rule.Wait)
		rel.State, rel.ExpiresAt = "requested", &end
	}
	rel.prior = map[uuid.UUID]State{}
	for _, r := range chosen {
		rel.Recipients, rel.prior[r.ID] = append(rel.Recipients, r.ID), r.State
	}
	return rel, chosen, nil
}

// lockAndChoose locks the item's recipients and picks those that are asked for.
// Further addresses become recipients of the item.
func (s *Store) lockAndChoose(ctx context.Context, tx pgx.Tx, item Item, others []string, req ReleaseRequest) ([]ItemRecipient, error) {
	all, err := lockRecipients(ctx, tx, item.ID)
	if err != nil {
		return nil, err
	}
	may := func(r ItemRecipient) bool { return r.State.releasable() || req.Again && r.State == OutcomeUnknown }
	var chosen []ItemRecipient
	if len(req.Recipients) == 0 && len(others) == 0 {
		chosen = slices.DeleteFunc(slices.Clone(all), func(r ItemRecipient) bool { return r.Added || !may(r) })
	}
	for _, a := range slices.Concat(req.Recipients, others) {
		i := slices.IndexFunc(all, func(r ItemRecipient) bool { return strings.EqualFold(r.Address, a) })
		if i < 0 && slices.Contains(others, a) {
			r, err := addRecipient(ctx, tx, item, a)
			if err != nil {
				return nil, err
			}
			all, i = append(all, r), len(all)
		}
		switch {
		case i < 0:
			return nil, ErrNoRecipient
		case !may(all[i]):
			return nil, ErrState
		case !slices.ContainsFunc(chosen, func(r ItemRecipient) bool { return r.ID == all[i].ID }):
			chosen = append(chosen, all[i])
		}
	}
	if len(chosen) == 0 {
		return nil, ErrState
	}
	return chosen, nil
}

// checkOthers makes sure that further addresses are of the item's workspace, so
// that a mail never leaves the people whose it is.
func (s *Store) checkOthers(item Item, addresses []string) ([]string, error) {
	var out []string
	for _, a := range addresses {
		a = strings.TrimSpace(clean(a))
		if s.served == nil || len(a) > 320 || !s.served(a, item.Workspace) {
			return nil, ErrNotServed
		}
		if !slices.ContainsFunc(out, func(b string) bool { return strings.EqualFold(a, b) }) {
			out = append(out, a)
		}
	}
	if len(out) > maxOthers {
		return nil, ErrNotServed
	}
	return out, nil
}

// maxOthers bounds to how many further addresses one release can go.
const maxOthers = 20

func addRecipient(ctx context.Context, tx pgx.Tx, item Item, address string) (ItemRecipient, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return ItemRecipient{}, fmt.Errorf("make recipient id: %w", err)
	}
	if _, err := tx.Exec(ctx, addRecipientSQL, id, item.Workspace, item.ID, address); err != nil {
		return ItemRecipient{}, fmt.Errorf("add recipient: %w", err)
	}
	return ItemRecipient{ID: id, Address: address, State: Quarantined, Added: true}, nil
}

func lockRecipients(ctx context.Context, tx pgx.Tx, item uuid.UUID) ([]ItemRecipient, error) {
	rows, err := tx.Query(ctx, lockRecipientsSQL, item)
	if err != nil {
		return nil, fmt.Errorf("lock recipients: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[ItemRecipient])
}

func (s *Store) writeRelease(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, item Item, rel release, chosen []ItemRecipient, req ReleaseRequest) error {
	action, next := audit.ReleaseExecute, ReleaseScheduled
	if rel.Mode == Required {
		action, next = audit.ReleaseRequest, ReleaseRequested
	}
	targets := []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}, {Type: "release", ID: rel.ID.String()}}
	for _, r := range chosen {
		label := ""
		if r.Added {
			label = "added"
		}
		targets = append(targets, audit.Target{Type: "quarantine_recipient", ID: r.ID.String(), Label: label, PII: r.Address})
	}
	by := actor.UserID.String()
	if rel.AskedBy != nil {
		by = rel.AskedBy.String()
	}
	ev := audit.Event{Action: action, Phase: "intent", Workspace: item.Workspace, Actor: actor, Roles: roles, Targets: targets,
		Reason: req.Reason, ReasonCode: req.Code, Retention: audit.Retention3Years, Approval: &audit.Approval{Mode: rel.Mode, RequestedBy: by, Approvers: []string{}},
		Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}}
	if item.StoppedAt != nil || req.Again {
		ev.After = map[string]any{"insisted": item.StoppedAt != nil, "again": req.Again}
	}
	var err error
	if rel.Intent, err = s.audit.Append(ctx, tx, ev); err != nil {
		return err
	}
	if err := s.insertRelease(ctx, tx, item, rel, actor.UserID, req, item.StoppedAt != nil); err != nil {
		return err
	}
	if item.StoppedAt != nil {
		if _, err := tx.Exec(ctx, clearStopSQL, item.ID); err != nil {
			return fmt.Errorf("note that somebody insists: %w", err)
		}
	}
	if rel.State == "approved" {
		if err := s.queue(ctx, tx, rel, chosen, s.cfg.TakeBack); err != nil {
			return err
		}
	}
	return setStates(ctx, tx, item.ID, rel.Recipients, next)
}

func (s *Store) insertRelease(ctx context.Context, tx pgx.Tx, item Item, rel release, by uuid.UUID, req ReleaseRequest, insisted bool) error {
	prior, err := json.Marshal(rel.prior)
	if err != nil {
		return fmt.Errorf("encode states: %w", err)
	}
	var person *uuid.UUID
	if by != uuid.Nil && rel.AskedBy == nil {
		person = &by
	}
	_, err = tx.Exec(ctx, insertReleaseSQL, rel.ID, item.Workspace, item.ID, rel.Recipients, rel.Intent, person, req.Reason, rel.Mode, rel.State,
		string(rel.Class), req.Code, rel.ExpiresAt, insisted, rel.Again, prior, rel.AskedBy)
	if err != nil {
		return fmt.Errorf("insert release: %w", err)
	}
	return nil
}

// queue writes one delivery per recipient, due after a while. An index of the
// database allows at most one that is under way or done.
func (s *Store) queue(ctx context.Context, tx pgx.Tx, rel release, to []ItemRecipient, wait time.Duration) error {
	for _, r := range to {
		if rel.Again {
			if _, err := tx.Exec(ctx, repeatDeliverySQL, r.ID); err != nil {
				return fmt.Errorf("set the earlier delivery aside: %w", err)
			}
		}
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make delivery id: %w", err)
		}
		_, err = tx.Exec(ctx, insertDeliverySQL, id, r.ID, rel.ID, s.now().Add(s.cfg.GiveUpAfter), wait)
		if pg.IsUnique(err, "delivery_once_idx") {
			return ErrState
		}
		if err != nil {
			return fmt.Errorf("queue delivery: %w", err)
		}
	}
	return nil
}

func setStates(ctx context.Context, tx pgx.Tx, item uuid.UUID, recipients []uuid.UUID, st State) error {
	if _, err := tx.Exec(ctx, setStateSQL, recipients, string(st)); err != nil {
		return fmt.Errorf("set state of recipients: %w", err)
	}
	return refreshItemState(ctx, tx, item)
}

// restoreStates gives copies back the state that they had before a release.
func restoreStates(ctx context.Context, tx pgx.Tx, rel release, recipients []uuid.UUID) error {
	by := map[State][]uuid.UUID{}
	for _, r := range recipients {
		st := rel.prior[r]
		if st == "" {
			st = Quarantined
		}
		by[st] = append(by[st], r)
	}
	for st, ids := range by {
		if err := setStates(ctx, tx, rel.Item, ids, st); err != nil {
			return err
		}
	}
	return nil
}

// refreshItemState stores what follows from the recipients' states.
func refreshItemState(ctx context.Context, tx pgx.Tx, item uuid.UUID) error {
	all, err := lockRecipients(ctx, tx, item)
	if err != nil {
		return err
	}
	var states, own []State
	for _, r := range all {
		states = append(states, r.State)
		if !r.Added {
			own = append(own, r.State)
		}
	}
	st := derive(states)
	if slices.Contains([]State{Released, Denied, Quarantined, Expired, Deleted}, st) && len(own) > 0 {
		st = derive(own) // what went to somebody else besides is no state of the mail
	}
	if _, err := tx.Exec(ctx, deriveStateSQL, item, string(st)); err != nil {
		return fmt.Errorf("set state of item: %w", err)
	}
	return nil
}

// Delivered is what a delivery of a released copy has come to, or how it goes.
type Delivered struct {
	State      State
	Code       int
	Text, Host string
}

// SetDelivery is the worker's: it notes how the delivery of one copy goes and
// what the next hop said, in the worker's transaction.
func (s *Store) SetDelivery(ctx context.Context, tx pgx.Tx, item, recipient uuid.UUID, d Delivered) error {
	// All rows of the item, in order: two copies may end at the same moment.
	if _, err := lockRecipients(ctx, tx, item); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, setReplySQL, recipient, d.Code, clean(d.Text), clean(d.Host)); err != nil {
		return fmt.Errorf("store reply of next hop: %w", err)
	}
	return setStates(ctx, tx, item, []uuid.UUID{recipient}, d.State)
}

// CloseRelease ends a release when none of its deliveries is under way any more.
func (s *Store) CloseRelease(ctx context.Context, tx pgx.Tx, releaseID uuid.UUID) error {
	if _, err := tx.Exec(ctx, closeReleaseSQL, releaseID); err != nil {
		return fmt.Errorf("close release: %w", err)
	}
	return nil
}

// TakeBack ends what was released and has not begun to go out. What has begun is
// [ErrTooLate].
func (s *Store) TakeBack(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, reason string) (Item, error) {
	item, err := s.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	reason = strings.TrimSpace(clean(reason))
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := lockRecipients(ctx, tx, item.ID); err != nil {
			return err
		}
		rels, err := readReleases(ctx, tx, underWaySQL, item.ID)
		if err != nil {
			return err
		}
		taken := false
		for _, rel := range rels {
			n, err := s.takeBack(ctx, tx, actor, roles, item, rel, reason)
			if err != nil {
				return err
			}
			taken = taken || n > 0
		}
		if !taken {
			return ErrTooLate
		}
		return nil
	})
	if err != nil {
		return Item{}, fmt.Errorf("take back release of item %s: %w", id, err)
	}
	return s.Get(ctx, id)
}

func (s *Store) takeBack(ctx context.Context, tx pgx.Tx, actor pg.Actor, roles []string, item Item, rel release, reason string) (int, error) {
	ids, err := s.stopDeliveries(ctx, tx, rel.ID, uuid.Nil, "")
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	if err := restoreStates(ctx, tx, rel, ids); err != nil {
		return 0, err
	}
	targets := []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}, {Type: "release", ID: rel.ID.String()}}
	for _, r := range ids {
		targets = append(targets, audit.Target{Type: "quarantine_recipient", ID: r.String()})
	}
	_, err = s.audit.Append(ctx, tx, audit.Event{Action: audit.ReleaseCancel, Workspace: item.Workspace, Actor: actor, Roles: roles, Reason: reason, Retention: audit.Retention3Years,
		Targets: targets, Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String(), CausationID: rel.Intent.String()}})
	if err != nil {
		return 0, err
	}
	return len(ids), endRelease(ctx, tx, rel.ID, "cancelled")
}

// stopDeliveries takes deliveries of a release out of the queue that have not
// begun, and the one that a worker has in hand and has not sent. It returns
// whose they were.
func (s *Store) stopDeliveries(ctx context.Context, tx pgx.Tx, releaseID, inHand uuid.UUID, owner string) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, stopDeliveriesSQL, releaseID, inHand, owner)
	if err != nil {
		return nil, fmt.Errorf("take deliveries out of the queue: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// endRelease ends a release of which nothing is under way any more.
func endRelease(ctx context.Context, tx pgx.Tx, id uuid.UUID, state string) error {
	if _, err := tx.Exec(ctx, endReleaseSQL, id, state); err != nil {
		return fmt.Errorf("end release: %w", err)
	}
	return nil
}

func readReleases(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]release, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read releases: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r release, err error) { return r, r.scan(row) })
}

// release is a row of that table.
type release struct {
	ID, Item, Intent, RequestedBy uuid.UUID
	Recipients                    []uuid.UUID
	Mode, State                   string
	Class                         policy.Class
	AskedBy                       *uuid.UUID
	ExpiresAt                     *time.Time
	Again                         bool
	prior                         map[uuid.UUID]State
}

func (r *release) scan(row pgx.Row) error {
	var prior []byte
	if err := row.Scan(&r.ID, &r.Item, &r.Recipients, &r.Intent, &r.RequestedBy, &r.Mode, &r.State, &r.Class, &r.AskedBy, &r.ExpiresAt, &r.Again, &prior); err != nil {
		return err
	}
	if err := json.Unmarshal(prior, &r.prior); err != nil {
		return errors.Join(errors.New("quarantine: the states before a release cannot be read"), err)
	}
	return nil
}
