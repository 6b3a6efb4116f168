package health

import (
	"context"
	"fmt"
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
		Meaning: "Mail flows. Should the database fail now, what its copy lacks would be lost with it.",
		Check: func(ctx context.Context) Result {
			var s replication
			if err := db.QueryRow(ctx, query).Scan(&s.copies, &s.behind, &s.slots, &s.idle, &s.kept, &s.lost, &s.size, &s.idleInTransact); err != nil {
				return lookupFailed("The state of the database's copies", err)
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
		r.Reason = fmt.Sprintf("%d copies of the database lack what the server has removed meanwhile; they have to be made anew. Mail flows, without that copy.", s.lost)
	case s.kept > keptForSlot:
		r.State, r.Code = Degraded, "kept"
		r.Reason = fmt.Sprintf("The database keeps %s for a copy that does not take it, which fills its disk. Mail flows until that is full. Bring the copy back, or drop its replication slot.", size(uint64(s.kept)))
	case s.idle > 0:
		r.State, r.Code = Degraded, "idle"
		r.Reason = fmt.Sprintf("%d copies of the database are not connected. Mail flows. Should the database fail now, what they lack would be lost.", s.idle)
	case s.behind > farBehind:
		r.State, r.Code = Degraded, "behind"
		r.Reason = fmt.Sprintf("A copy of the database is %s behind. Mail flows. Should the database fail now, that would be lost. Look at its load and its network.", size(uint64(s.behind)))
	case s.idleInTransact > 600:
		r.State, r.Code = Degraded, "open_transaction"
		r.Reason = fmt.Sprintf("A transaction has been open and idle for %s, so the database cannot clean up and grows. Mail flows. Find who holds it (pg_stat_activity).", seconds(time.Duration(s.idleInTransact)*time.Second))
	case s.copies == 0 && s.slots == 0:
		r.Code, r.Reason = "no_copy", "The database has no copy that follows it (replication); its backups are all there is. Mail flows. It has "+size(uint64(max(0, s.size)))+"."
	default:
		r.Reason = fmt.Sprintf("%d copies follow the database.", s.copies)
	}
	return r
}
