package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// Parts of an event that say how far it can be relied on: the clock, the host,
// who agreed, and a hash of what was and what is.

// Approval is who else agreed to an act, or has to.
type Approval struct {
	Mode        string // single_operator or required
	RequestedBy string
	RequestedAt time.Time
	Required    int      // how many others have to agree
	Approvers   []string // user ids
	Decision    string   // approved or denied, once decided
	DecidedAt   time.Time
	Comment     string
}

// approval writes who agreed. How the approver has shown who they are is what
// the event says of its own actor: it is the approver's act.
func approval(ev Event) any {
	a := ev.Approval
	if a == nil {
		return nil
	}
	approvers := []any{}
	for _, id := range a.Approvers {
		m := map[string]any{"id": id, "decision": orNil(a.Decision), "at": timeOrNil(a.DecidedAt), "comment": orNil(a.Comment), "auth_provider": nil, "mfa": nil, "session_id": nil}
		if id == ev.Actor.UserID.String() {
			by := auth(ev.Actor)
			m["auth_provider"], m["mfa"], m["session_id"] = by["provider"], by["mfa"], by["session_id"]
		}
		approvers = append(approvers, m)
	}
	return map[string]any{"mode": a.Mode, "requested_by": orNil(a.RequestedBy), "requested_at": timeOrNil(a.RequestedAt), "required": a.Required,
		"approvers": approvers, "self_approval": slices.Contains(a.Approvers, a.RequestedBy)}
}

func timeOrNil(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return stamp(t)
}

// stamp is a time as events write it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// hashOf is the SHA-256 of one side of a change, as the event shows it: secrets
// masked and personal values as commitments, so that it can be compared without
// them.
func hashOf(side any) any {
	if side == nil {
		return nil
	}
	b, err := json.Marshal(side)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// clockEvery is how long the kernel's word on its clock is good for.
const clockEvery = 10 * time.Second

// clock asks the kernel whether its time is kept right (NTP), and how far off it
// was last. It changes nothing.
type clock struct {
	mu    sync.Mutex // guards the rest
	until time.Time
	known map[string]any // nil where the kernel does not say
}

func (c *clock) state() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.After(c.until) {
		c.until, c.known = now.Add(clockEvery), readClock()
	}
	if c.known == nil {
		return nil
	}
	return c.known
}

func readClock() map[string]any {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return nil
	}
	offset := time.Duration(t.Offset) * time.Microsecond
	if t.Status&unix.STA_NANO != 0 {
		offset = time.Duration(t.Offset)
	}
	return map[string]any{"synced": state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, "offset_ms": offset.Milliseconds()}
}

// hostID names this host without giving its machine id away, which is a secret
// of sorts (machine-id(5)): a hash of it for this use alone. Empty where there is
// none.
var hostID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/etc/machine-id")
	if err != nil || strings.TrimSpace(string(b)) == "" {
		return ""
	}
	h := hmac.New(sha256.New, []byte(strings.TrimSpace(string(b))))
	h.Write([]byte("mailward audit"))
	return hex.EncodeToString(h.Sum(nil)[:16])
})

// ErrUnwritable means that an act could not be put on record, and so must not
// happen.
var ErrUnwritable = errors.New("audit: cannot be written")

// IsUnwritable says whether an act failed for want of its record: the program's
// own event, or the one that the database writes for a row change.
func IsUnwritable(err error) bool {
	if errors.Is(err, ErrUnwritable) {
		return true
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (strings.Contains(pgErr.Where, "guard.record") || strings.Contains(pgErr.Where, "audit.append"))
}
