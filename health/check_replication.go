package health

import (
	"context"
	"strconv"
	"time"

	"mailward/internal/pg"
)

const (
	// farBehind is how much a copy may lack before it is spoken of: about a minute
	// of a busy installation.
	farBehind = 256 << 20
	// keptForSlot is how much a slot may hold back: what it keeps fills the disk.
	keptForSlot = 4 << 30
)

// replication is what the server says of its copies and of its size.
type replication struct {
	copies         int
	behind         int64 // bytes; -1: not to be seen
	slots, idle    int
	kept           int64 // bytes held back for a slot
	lost           int
	size           int64
	idleInTransact int // seconds of the oldest
}

// Replication checks how far copies of the database are behind, and what it needs
// of its disk.
func Replication(db Database) Component {
	query := pg.Query(queries, "check_replication")
	return Component{
		Name: "replication", Title: "Copies of the database", Group: "stores", Effect: Weakens, Every: 20 * time.Second,
		Meaning: say("m.replication"),
		Check: func(ctx context.Context) Result {
			var s replication
			if err := db.QueryRow(ctx, query).Scan(&s.copies, &s.behind, &s.slots, &s.idle, &s.kept, &s.lost, &s.size, &s.idleInTransact); err != nil {
				return lookupFailed("replication", err)
			}
			return judgeReplication(s)
		},
	}
}

func judgeReplication(s replication) Result {
	r := Result{State: Up, Facts: map[string]string{"copies": strconv.Itoa(s.copies), "slots": strconv.Itoa(s.slots), "size": size(uint64(max(0, s.size)))}}
	if s.kept > 0 {
		r.Facts["kept"] = size(uint64(s.kept))
	}
	if s.behind >= 0 {
		r.Facts["behind"] = size(uint64(s.behind))
	} else if s.copies > 0 {
		r.Facts["behind"] = "not shown to our role"
	}
	switch {
	case s.lost > 0:
		r.State, r.Code = Down, "lost"
		r.Reason = say("replication.lost", num(s.lost))
	case s.kept > keptForSlot:
		r.State, r.Code = Degraded, "kept"
		r.Reason = say("replication.kept", amount(uint64(s.kept)))
	case s.idle > 0:
		r.State, r.Code = Degraded, "idle"
		r.Reason = say("replication.idle", num(s.idle))
	case s.behind > farBehind:
		r.State, r.Code = Degraded, "behind"
		r.Reason = say("replication.behind", amount(uint64(s.behind)))
	case s.idleInTransact > 600:
		r.State, r.Code = Degraded, "open_transaction"
		r.Reason = say("replication.open", span(time.Duration(s.idleInTransact)*time.Second))
	case s.copies == 0 && s.slots == 0:
		r.Code, r.Reason = "no_copy", say("replication.no_copy", amount(uint64(max(0, s.size))))
	default:
		r.Reason = say("replication.ok", num(s.copies))
	}
	return r
}
