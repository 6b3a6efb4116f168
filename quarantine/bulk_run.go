package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/approval"
	"mailward/audit"
	"mailward/internal/pg"
)

var (
	bulkChooseSQL      = pg.Query(queryFiles, "bulk_choose")
	bulkInsertSQL      = pg.Query(queryFiles, "bulk_insert")
	bulkInsertItemsSQL = pg.Query(queryFiles, "bulk_insert_items")
	bulkItemsSQL       = pg.Query(queryFiles, "bulk_items")
	bulkListSQL        = pg.Query(queryFiles, "bulk_list")
	bulkClaimSQL       = pg.Query(queryFiles, "bulk_claim")
	bulkPendingSQL     = pg.Query(queryFiles, "bulk_pending")
	bulkDidSQL         = pg.Query(queryFiles, "bulk_did")
	bulkRefusedSQL     = pg.Query(queryFiles, "bulk_refused")
	bulkPutOffSQL      = pg.Query(queryFiles, "bulk_put_off")
	bulkGiveUpSQL      = pg.Query(queryFiles, "bulk_give_up")
	bulkEndSQL         = pg.Query(queryFiles, "bulk_end")
)

const (
	bulkLookEvery = time.Second
	// bulkLease is how long a process may be silent over an act before another goes
	// on with it. It is renewed with each item.
	bulkLease = 30 * time.Second
	// bulkTryAgain is when an act goes on that could not be put on record.
	bulkTryAgain = 10 * time.Second
	// bulkGiveUp is when an act ends that cannot go on; what was not done is said.
	bulkGiveUp = time.Hour
)

// errTaken means that another process has dealt with an item.
var errTaken = errors.New("quarantine: the item of an act is dealt with already")

// Run does what was asked for, until ctx ends. Any number of processes may run it.
func (b *Bulks) Run(ctx context.Context) error {
	t := time.NewTicker(bulkLookEvery)
	defer t.Stop()
	for {
		for {
			more, err := b.Next(ctx)
			if err != nil && ctx.Err() == nil {
				b.log.Error("acts on many held mails stand still", "error", err)
			}
			if !more || err != nil || ctx.Err() != nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		case <-t.C:
		}
	}
}

// claimed is an act that this process works on.
type claimed struct {
	id, owner, event uuid.UUID
	actor            pg.Actor
	act              BulkAct
	reason           string
	call             asked
	created          time.Time
}

func (c claimed) worker() pg.Actor { return pg.System("quarantine bulk", "act "+c.id.String()) }

// Next works on one act, if one waits, as far as it comes.
func (b *Bulks) Next(ctx context.Context) (more bool, err error) {
	c, err := b.claim(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("claim an act: %w", err)
	}
	items, err := b.pending(ctx, c)
	if errors.Is(err, ErrReleaseForged) {
		b.log.Error("an act on many held mails is not what the record says", "act", c.id)
		return true, b.giveUp(ctx, c, "forged")
	}
	if err != nil {
		return false, err
	}
	for _, it := range items {
		err := b.one(ctx, c, it)
		switch {
		case err == nil || errors.Is(err, errTaken):
		case errors.Is(err, ErrAskerGone):
			return true, b.giveUp(ctx, c, "session")
		case ctx.Err() != nil:
			return false, ctx.Err()
		case b.s.now().Sub(c.created) > bulkGiveUp:
			return true, b.giveUp(ctx, c, "record")
		default:
			b.log.Error("an act on many held mails waits", "act", c.id, "item", it.item, "error", err)
			return true, b.system(ctx, c, bulkPutOffSQL, c.id, bulkTryAgain.Seconds(), "record")
		}
	}
	return true, b.end(ctx, c)
}

func (b *Bulks) claim(ctx context.Context) (c claimed, err error) {
	err = b.s.db.Act(ctx, pg.System("quarantine bulk", "due acts"), func(ctx context.Context, tx pgx.Tx) error {
		var session, token *uuid.UUID
		var call []byte
		if err := tx.QueryRow(ctx, bulkClaimSQL, bulkLease.Seconds()).Scan(&c.id, &c.owner, &session, &token, &c.act, &c.reason, &call, &c.event, &c.created); err != nil {
			return err
		}
		c.actor = pg.Actor{Type: pg.ActorUser, UserID: c.owner}
		if session != nil {
			c.actor.SessionID = *session
		}
		if token != nil {
			c.actor.TokenID = *token
		}
		return json.Unmarshal(call, &c.call)
	})
	return c, err
}

// pendingItem is one that still has to be dealt with.
type pendingItem struct {
	number          int
	item, workspace uuid.UUID
	state           string
}

// pending reads what is left to do, after it has compared the act with the event
// of its start: a row that somebody wrote past the program is done in nobody's name.
func (b *Bulks) pending(ctx context.Context, c claimed) (left []pendingItem, err error) {
	rows, err := b.s.db.Query(ctx, bulkPendingSQL, c.id)
	if err != nil {
		return nil, fmt.Errorf("read items of act: %w", err)
	}
	var all []uuid.UUID
	var it pendingItem
	_, err = pgx.ForEachRow(rows, []any{&it.number, &it.item, &it.workspace, &it.state}, func() error {
		all = append(all, it.item)
		if it.state == "pending" {
			left = append(left, it)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read items of act: %w", err)
	}
	var bytes []byte
	if err := b.s.db.QueryRow(ctx, eventBytesSQL, c.event).Scan(&bytes); errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrReleaseForged
	} else if err != nil {
		return nil, fmt.Errorf("read audit event: %w", err)
	}
	var e struct {
		Action  string
		Actor   struct{ ID string }
		Targets []struct{ ID string }
		Reason  struct{ Text string }
		Change  struct {
			After struct {
				Act         string
				ItemsSHA256 string `json:"items_sha256"`
			}
		}
	}
	err = json.Unmarshal(bytes, &e)
	if err != nil || e.Action != audit.BulkStart || e.Actor.ID != c.owner.String() || len(e.Targets) != 1 || e.Targets[0].ID != c.id.String() ||
		e.Change.After.Act != string(c.act) || e.Change.After.ItemsSHA256 != itemsHash(all) || e.Reason.Text != c.reason {
		return nil, ErrReleaseForged
	}
	return left, nil
}

// one deals with one item. An error means that nothing is known of it: it stays
// to be done.
func (b *Bulks) one(ctx context.Context, c claimed, it pendingItem) error {
	who, err := b.who(ctx, c.actor)
	if err != nil {
		return err
	}
	if !who.May(c.act, it.workspace) {
		return b.refused(ctx, c, it, "refused", "forbidden")
	}
	as := audit.WithCausation(audit.WithAttestation(pg.WithRequest(ctx, c.call.Request), c.call.Attestation), c.event.String())
	as = pg.Also(as, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, bulkDidSQL, c.id, it.number, bulkLease.Seconds())
		if err == nil && tag.RowsAffected() == 0 {
			return errTaken
		}
		return err
	})
	err = b.do(as, who, c, it.item)
	switch code := refusal(err); {
	case err == nil:
		return nil
	case code != "":
		return b.refused(ctx, c, it, "refused", code)
	case errors.Is(err, errTaken), audit.IsUnwritable(err), pg.IsUnavailable(err), ctx.Err() != nil:
		return err
	}
	b.log.Error("an item of an act on many held mails failed", "act", c.id, "item", it.item, "error", err)
	return b.refused(ctx, c, it, "failed", "internal")
}

func (b *Bulks) do(ctx context.Context, who Asker, c claimed, item uuid.UUID) (err error) {
	switch c.act {
	case BulkRelease:
		_, err = b.s.Release(ctx, who.Actor, who.Roles, item, ReleaseRequest{Reason: c.reason})
	case BulkDelete:
		_, err = b.s.Delete(ctx, who.Actor, who.Roles, item, c.reason)
	case BulkDeny:
		_, err = b.s.Deny(ctx, who.Actor, who.Roles, item, c.reason)
	case BulkSandbox:
		_, err = b.s.SendToSandbox(ctx, who.Actor, who.Roles, item, c.reason)
	default:
		err = ErrBulkAct
	}
	return err
}

// refusal is the word for an act's refusal; "" where it is none.
func refusal(err error) string {
	for _, r := range []struct {
		err  error
		word string
	}{
		{ErrState, "state"}, {ErrGone, "gone"}, {ErrNotFound, "not_found"}, {ErrNothingToRun, "nothing_to_run"}, {ErrNoSandbox, "no_sandbox"},
		{approval.ErrSamePerson, "same_person"}, {ErrNoRecipient, "state"}, {ErrBulkAct, "state"},
		{ErrLegalHold, "legal_hold"}, {ErrOwnMail, "own_mail"},
	} {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return ""
}

func (b *Bulks) refused(ctx context.Context, c claimed, it pendingItem, state, why string) error {
	return b.system(ctx, c, bulkRefusedSQL, c.id, it.number, state, why, bulkLease.Seconds())
}

// giveUp ends an act; what was not done is marked so.
func (b *Bulks) giveUp(ctx context.Context, c claimed, why string) error {
	item := "not_done"
	if why == "session" {
		item = why
	}
	if err := b.system(ctx, c, bulkGiveUpSQL, c.id, item); err != nil {
		return err
	}
	return b.finish(ctx, c, "stopped", why)
}

func (b *Bulks) end(ctx context.Context, c claimed) error { return b.finish(ctx, c, "done", "") }

// finish ends an act and puts on record what it came to.
func (b *Bulks) finish(ctx context.Context, c claimed, state, why string) error {
	err := b.s.db.Act(ctx, c.worker(), func(ctx context.Context, tx pgx.Tx) error {
		var done, waiting, refused, failed int
		err := tx.QueryRow(ctx, bulkEndSQL, c.id, state, why).Scan(&done, &waiting, &refused, &failed)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // It has ended already.
		}
		if err != nil {
			return err
		}
		ev := audit.Event{Action: audit.BulkEnd, Actor: c.worker(), Retention: audit.Retention3Years, ReasonCode: why, Correlation: audit.Correlation{CausationID: c.event.String()},
			Targets: []audit.Target{{Type: "quarantine_bulk", ID: c.id.String(), Label: string(c.act)}},
			After:   map[string]any{"done": done, "waiting": waiting, "refused": refused, "failed": failed}}
		if state != "done" {
			ev.Outcome, ev.OutcomeDetail = "failure", "it was not done to its end"
		}
		_, err = b.s.audit.Append(ctx, tx, ev)
		return err
	})
	if err != nil {
		return fmt.Errorf("end act %s: %w", c.id, err)
	}
	return nil
}

// system writes something about an act that is nobody's decision.
func (b *Bulks) system(ctx context.Context, c claimed, sql string, args ...any) error {
	err := b.s.db.Act(ctx, c.worker(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("note how act %s goes: %w", c.id, err)
	}
	return nil
}
