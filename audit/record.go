package audit

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

const (
	// groupsAtOnce bounds the transactions of [Log.Record] that are under way: two,
	// so that one can be filled while the disk works for the other.
	groupsAtOnce = 2
	// groupMost bounds the events of one transaction.
	groupMost = 100
)

// waiting is an event whose writer waits for it to be committed.
type waiting struct {
	who  pg.Actor
	enc  encoded
	done chan error // holds one
}

// group are the events of [Log.Record] that wait for a transaction. Whoever comes
// while others are being written is written with the next ones: the disk then
// flushes once for all of them. With one writer at a time nobody waits.
type group struct {
	mu      sync.Mutex // guards the two below
	queue   []waiting
	writing int
}

// join adds one event, and says whether the caller has to see to its being written.
func (g *group) join(w waiting) (lead bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, w)
	if lead = g.writing < groupsAtOnce; lead {
		g.writing++
	}
	return lead
}

// take hands out what waits, or ends the caller's part when nothing does.
func (g *group) take() []waiting {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.queue), groupMost)
	taken := g.queue[:n:n]
	if g.queue = g.queue[n:]; n == 0 {
		g.writing--
	}
	return taken
}

// Record writes an event for an act that changes no row, and returns when it is
// committed. Events of several callers at a time share a transaction. An error
// means that the act must not happen; the event may be there all the same.
func (l *Log) Record(ctx context.Context, ev Event) error {
	if err := l.complete(ctx, &ev); err != nil {
		return err
	}
	enc, err := ev.encode(l.obs, l.clock.state())
	if err != nil {
		return err
	}
	w := waiting{who: ev.Actor, enc: enc, done: make(chan error, 1)}
	if l.alone.join(w) {
		// Ends when nobody waits: each event it takes has somebody who waits for it.
		go l.writeGroups()
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("write audit event %s: %w", ev.Action, ctx.Err())
	}
}

// writeGroups writes what waits until nothing does.
func (l *Log) writeGroups() {
	for ws := l.alone.take(); len(ws) > 0; ws = l.alone.take() {
		l.writeGroup(ws)
	}
}

// writeGroup writes events together, or each alone where one of them is refused:
// a bad event takes no other with it.
func (l *Log) writeGroup(ws []waiting) {
	// Not the context of one of them, who may go away.
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	encs := make([]encoded, len(ws))
	for i, w := range ws {
		encs[i] = w.enc
	}
	err := l.record(ctx, ws[0].who, encs)
	for i, w := range ws {
		if err != nil && len(ws) > 1 && !pg.IsUnavailable(err) {
			w.done <- l.record(ctx, w.who, encs[i:i+1])
			continue
		}
		w.done <- err
	}
}

// record writes events in one transaction, again if the connection broke: an
// error does not mean that they were not stored. The actor of the transaction
// does not matter to events, each has its own; the claim is there because every
// writing transaction has one.
func (l *Log) record(ctx context.Context, a pg.Actor, encs []encoded) (err error) {
	for range recordTries {
		b := &pgx.Batch{}
		for _, enc := range encs {
			b.Queue(appendSQL, enc.id, enc.bytes, enc.pii)
		}
		err = l.db.ActAll(ctx, a, b)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			l.failures.Add(1)
		}
		if err = fmt.Errorf("append audit event %s: %w: %w", encs[0].action, ErrUnwritable, err); ctx.Err() != nil || !(pg.IsUnavailable(err) || pg.IsConflict(err)) {
			return err
		}
	}
	return err
}
