package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"mailward/internal/pg"
)

var (
	purgesSQL     = pg.Query(queryFiles, "purges")
	lostValuesSQL = pg.Query(queryFiles, "lost_values")
)

// deletion is what one protocol tells of, and what is missing by it.
type deletion struct {
	digest  *string // of the leaves, as the protocol has it; nil: the protocol is gone too
	takenBy string  // the deletion that took the protocol
	missing hash.Hash
	count   int64
}

// deletions are those of the whole record, by the event that is the protocol.
type deletions struct {
	by     map[string]*deletion
	number map[int64]*deletion // whose protocol has that number
}

func (l *Log) deletions(ctx context.Context) (d deletions, err error) {
	d = deletions{by: map[string]*deletion{}, number: map[int64]*deletion{}}
	rows, err := l.db.Query(ctx, purgesSQL)
	if err != nil {
		return d, fmt.Errorf("read protocols of deletions: %w", err)
	}
	var (
		id     string
		digest *string
		number *int64
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &digest, &number}, func() error {
		d.by[id] = &deletion{digest: digest, missing: sha256.New()}
		if number != nil {
			d.number[*number] = d.by[id]
		}
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("read protocols of deletions: %w", err)
	}
	return d, nil
}

// take notes an event that is missing, in the order of numbers.
func (d deletions) take(seq int64, leaf []byte, protocol string) {
	if p := d.by[protocol]; p != nil {
		p.missing.Write(binary.BigEndian.AppendUint64(nil, uint64(seq)))
		p.missing.Write(leaf)
		p.count++
	}
	if p := d.number[seq]; p != nil {
		p.takenBy = protocol
	}
}

// problem says which protocol is not about the events that are missing, or is missing
// itself without having gone in a deletion of its own.
func (d deletions) problem() string {
	for _, id := range slices.Sorted(maps.Keys(d.by)) {
		p := d.by[id]
		switch {
		case p.digest == nil && !d.told(id):
			return fmt.Sprintf("%d events are missing, and the protocol %s of their deletion too", p.count, id)
		case p.digest != nil && hex.EncodeToString(p.missing.Sum(nil)) != *p.digest:
			return fmt.Sprintf("the protocol %s is not about the %d events that are missing", id, p.count)
		}
	}
	return ""
}

// told says whether the deletion of a protocol, or that of its protocol, and so on, is
// one whose protocol is there: they are events too, whose time is over some day.
func (d deletions) told(id string) bool {
	for range d.by {
		p := d.by[id]
		if p == nil {
			return false
		}
		if p.digest != nil {
			return true
		}
		id = p.takenBy
	}
	return false
}
