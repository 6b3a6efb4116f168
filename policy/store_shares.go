package policy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

// A reaction's limit holds for all processes together. Each takes a share of it in the
// database before it touches anything, and uses that from memory: far from the limit
// one question serves many mails, near it the shares become single mails. What a
// process has, or has touched and not written down yet, is off the limit for all others.

var (
	lockReactionSQL = pg.Query(queryFiles, "lock_reaction")
	takeShareSQL    = pg.Query(queryFiles, "take_share")
	keepSharesSQL   = pg.Query(queryFiles, "keep_shares")
	putTouchesSQL   = pg.Query(queryFiles, "put_touches")

	reactionActor = pg.System("alert reaction", "limit")
)

const (
	// saveTouchesAfter is how long what reactions touch is collected before it is
	// written down.
	saveTouchesAfter = time.Second

	// shareMost and shareParts: a share is an eighth of what is left, and no more
	// than a process uses in a moment.
	shareMost  = 64
	shareParts = 8
	// shareLasts is when the database gives a share to others whose process has not
	// been heard of; the process itself trusts in it for less.
	shareLasts = time.Minute
	shareTrust = 45 * time.Second
	// shareIdle is when a share that nothing was taken from goes back.
	shareIdle = 10 * time.Second
	// shareLimit bounds the question, for which a mail waits; after a failure the next
	// ones do not wait for a moment.
	shareLimit = 5 * time.Second
	shareAgain = time.Second
)

// touch is one thing that a reaction has touched.
type touch struct{ reaction, thing uuid.UUID }

// share is what this process may still touch for a reaction.
type share struct {
	left        int
	used, until time.Time
	none        bool // beyond it there was nothing when it asked; until the next snapshot
}

// touches are what reactions have touched and is not written down yet, and the shares.
// What is not written when the process dies is lost: each held mail has its own record.
type touches struct {
	asking sync.Mutex    // held while shares are changed in the database, before mu; guards the next two
	failed time.Time     // when the last question failed; zero: it did not
	why    error         // it failed
	holder uuid.UUID     // this process
	signal chan struct{} // something was added

	mu      sync.Mutex // guards what follows
	pending map[touch]time.Time
	shares  map[uuid.UUID]*share // by reaction
}

func newTouches() touches {
	return touches{holder: uuid.New(), signal: make(chan struct{}, 1), pending: map[touch]time.Time{}, shares: map[uuid.UUID]*share{}}
}

// has says whether a share is there to be used.
func (x *share) has(now time.Time) bool { return x != nil && x.left > 0 && now.Before(x.until) }

// room says whether a reaction of the snapshot may touch one thing more, as far as is
// known here. mu is held.
func (t *touches) room(m *Measure, now time.Time) bool {
	x := t.shares[m.ID]
	return x.has(now) || (x == nil || !x.none) && m.Taken < m.Most
}

// unwritten is how much of a reaction's touches is not written down. mu is held.
func (t *touches) unwritten(reaction uuid.UUID) (n int) {
	for x := range t.pending {
		if x.reaction == reaction {
			n++
		}
	}
	return n
}

// Touch counts a mail for the reactions that touch it. False means that one of
// them has become full or has ended in the meantime, and nothing is counted: the
// decision is to be made anew. It asks the database once for many mails.
func (s *Store) Touch(ctx context.Context, mail uuid.UUID, list []*Measure) (bool, error) {
	if len(list) == 0 { // nearly always: no reaction is in force
		return true, nil
	}
	list = slices.Clone(list)
	for {
		lacks, ok := s.take(mail, list)
		if ok || lacks == nil {
			return ok, nil
		}
		got, err := s.takeShare(ctx, lacks.ID)
		switch {
		case err != nil && lacks.Trial: // what is only tried keeps no mail from anybody
			list = slices.DeleteFunc(list, func(m *Measure) bool { return m == lacks })
		case err != nil:
			return false, fmt.Errorf("take a share of the limit of reaction %s: %w", lacks.ID, err)
		case !got:
			return false, nil
		}
	}
}

// take uses the shares of all reactions of a list, or of none: then it names one that
// lacks a share, or none where one is full or has ended.
func (s *Store) take(mail uuid.UUID, list []*Measure) (lacks *Measure, ok bool) {
	t, now, snap := &s.touches, s.now(), s.snap.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	var use []uuid.UUID
	for _, m := range list {
		if _, known := t.pending[touch{m.ID, mail}]; known {
			continue
		}
		if use = append(use, m.ID); t.shares[m.ID].has(now) {
			continue
		}
		// The list may be of an earlier snapshot, which counts less.
		i := slices.IndexFunc(snap.measures, func(now *Measure) bool { return now.ID == m.ID })
		if i < 0 || !t.room(snap.measures[i], now) {
			return nil, false
		}
		if lacks == nil {
			lacks = m
		}
	}
	if lacks != nil {
		return lacks, false
	}
	for _, id := range use {
		x := t.shares[id]
		x.left, x.used = x.left-1, now
		t.pending[touch{id, mail}] = now
	}
	if len(use) > 0 {
		select {
		case t.signal <- struct{}{}:
		default:
		}
	}
	return nil, true
}

// takeShare asks for a share of a reaction's limit; false: there is nothing left.
func (s *Store) takeShare(ctx context.Context, reaction uuid.UUID) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, shareLimit)
	defer cancel()
	t := &s.touches
	t.asking.Lock()
	defer t.asking.Unlock()
	t.mu.Lock()
	began := s.now()
	if t.shares[reaction].has(began) { // somebody else has asked meanwhile
		t.mu.Unlock()
		return true, nil
	}
	have := t.unwritten(reaction) // grows no more: nothing can be used
	t.mu.Unlock()
	if !t.failed.IsZero() && began.Sub(t.failed) < shareAgain {
		return false, t.why
	}
	n, all := 0, true
	err := s.db.Act(ctx, reactionActor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockReactionSQL, reaction); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, takeShareSQL, reaction, t.holder, have, shareMost, shareParts, shareLasts)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&n, &all}, func() error { return nil })
		return err
	})
	if err != nil {
		t.failed, t.why = s.now(), err
		return false, err
	}
	t.failed, t.why = time.Time{}, nil
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shares[reaction] = &share{left: n, used: began, until: began.Add(shareTrust), none: all}
	return n > 0, nil
}

// saveTouches writes down what was touched, and with it what this process still has of
// the limits. Shares that nothing uses go back; last: all of them.
func (s *Store) saveTouches(ctx context.Context, last bool) {
	t := &s.touches
	t.asking.Lock()
	defer t.asking.Unlock()
	reactions, things, times, shares, amounts := t.toSave(s.now(), last)
	if len(things) == 0 && len(shares) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, shareLimit)
	defer cancel()
	began := s.now()
	var gone []uuid.UUID
	err := s.db.Act(ctx, reactionActor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, putTouchesSQL, reactions, things, times); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, keepSharesSQL, t.holder, shares, amounts, shareLasts)
		if err != nil {
			return err
		}
		gone, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	if err != nil {
		s.log.Warn("mails that reactions touch not written down yet", "mails", len(things), "error", err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range things {
		delete(t.pending, touch{reactions[i], things[i]})
	}
	for _, id := range shares {
		if x := t.shares[id]; slices.Contains(gone, id) {
			delete(t.shares, id)
		} else if x != nil {
			x.until = began.Add(shareTrust)
		}
	}
}

// toSave lists what is to be written down, and what this process has of each limit
// when that is done: what is left, and what is touched from now on comes out of that.
func (t *touches) toSave(now time.Time, last bool) (reactions, things []uuid.UUID, times []time.Time, shares []uuid.UUID, amounts []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for x, at := range t.pending {
		reactions, things, times = append(reactions, x.reaction), append(things, x.thing), append(times, at)
	}
	for id, x := range t.shares {
		back := x.left > 0 && (last || now.Sub(x.used) > shareIdle)
		if back || !now.Before(x.until) {
			x.left = 0
		}
		if back || x.left > 0 || slices.Contains(reactions, id) {
			shares, amounts = append(shares, id), append(amounts, x.left)
		}
	}
	return reactions, things, times, shares, amounts
}

// publish puts a snapshot in place. Where there was no share to be had, it says whether
// there is now.
func (s *Store) publish(snap *snapshot) {
	s.touches.mu.Lock()
	defer s.touches.mu.Unlock()
	s.snap.Store(snap)
	for id, x := range s.touches.shares {
		if x.none = false; x.left == 0 && s.touches.unwritten(id) == 0 {
			delete(s.touches.shares, id)
		}
	}
}
