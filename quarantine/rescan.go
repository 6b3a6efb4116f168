package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
)

var (
	setRescanSQL    = pg.Query(queryFiles, "set_rescan")
	scannedSQL      = pg.Query(queryFiles, "scanned")
	scannedAtSQL    = pg.Query(queryFiles, "scanned_at")
	openReleasesSQL = pg.Query(queryFiles, "open_releases")
)

// Engines look at the bytes of a held mail again, with the signatures of today.
type Engines interface {
	Rescan(ctx context.Context, mail uuid.UUID, raw io.Reader) (policy.Report, error)
}

// UseEngines sets who looks at a mail before it is released. Without them nobody
// does.
func (s *Store) UseEngines(e Engines) { s.engines = e }

// rescanFor is how long an answer of the engines counts for the copies of one
// release: they go out one after the other.
const rescanFor = 10 * time.Minute

// Rescan is what the engines said when they were asked again.
type Rescan struct {
	At       time.Time             `json:"at"`
	Class    policy.Class          `json:"class"`
	Worse    bool                  `json:"worse"`
	Findings []policy.Finding      `json:"findings,omitempty" doc:"that were not known before"`
	Engines  []policy.EngineAnswer `json:"engines"`
}

func (i *Item) readRescan(b []byte) error {
	var r Rescan
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("read what the engines said: %w", err)
	}
	if !r.At.IsZero() {
		i.Rescan = &r
	}
	return nil
}

// OpenRelease is one that waits, or is under way.
type OpenRelease struct {
	ID         uuid.UUID   `json:"id"`
	State      string      `json:"state" enum:"requested,approved"`
	Mode       string      `json:"mode"`
	Recipients []uuid.UUID `json:"recipient_ids"`
	ByEmail    string      `json:"requested_by,omitempty"`
	Reason     string      `json:"reason"`
	Code       string      `json:"reason_code"`
	ExpiresAt  *time.Time  `json:"expires_at,omitempty" doc:"of a request"`
	// BeginsAt is when the first copy goes out. Until then it can be taken back.
	BeginsAt *time.Time `json:"begins_at,omitempty"`
	// Waits says what a release waits for that has not got through.
	Waits string `json:"waits,omitempty"`
}

func (s *Store) openReleases(ctx context.Context, item uuid.UUID) ([]OpenRelease, error) {
	rows, err := s.db.Query(ctx, openReleasesSQL, item)
	if err != nil {
		return nil, fmt.Errorf("read open releases: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[OpenRelease])
}

// scan asks the engines about an item. Those that are silent are an error, unless
// the others have found worse than is known.
func (s *Store) scan(ctx context.Context, item Item) (Rescan, error) {
	raw, err := s.Raw(ctx, item)
	if err != nil {
		return Rescan{}, err
	}
	defer raw.Close()
	report, err := s.engines.Rescan(ctx, item.MailID, raw)
	if err != nil {
		return Rescan{}, fmt.Errorf("%w: %w", ErrEnginesSilent, err)
	}
	r := judge(item, report, s.now())
	if failed := report.Failed(); len(failed) > 0 && !r.Worse {
		return r, fmt.Errorf("%w: no answer from %s", ErrEnginesSilent, strings.Join(failed, ", "))
	}
	return r, nil
}

// judge compares what the engines say now with what is known of an item. Worse is
// a graver class, and malware by a name that nobody has looked at yet.
func judge(item Item, report policy.Report, now time.Time) Rescan {
	r := Rescan{At: now.UTC(), Class: policy.Decide(policy.Input{Report: report}).Class, Engines: report.Engines}
	for _, f := range report.Findings {
		known := slices.ContainsFunc(item.Findings, func(k policy.Finding) bool { return k.Engine == f.Engine && k.Name == f.Name })
		if known {
			continue
		}
		r.Findings = append(r.Findings, f)
		r.Worse = r.Worse || f.Class == policy.Malware
	}
	r.Worse = r.Worse || policy.Graver(r.Class, item.Class)
	return r
}

// note stores what the engines said. What is new and worse is the item's from now
// on; stopped says that a release was stopped by it, and one that waits is by what
// is worse. The caller holds the lock of the item's recipients.
func (s *Store) note(ctx context.Context, tx pgx.Tx, item Item, r Rescan, stopped bool) error {
	// The engines take minutes: the sandbox may have said more meanwhile.
	if err := item.refresh(ctx, tx); err != nil {
		return err
	}
	all, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode what the engines said: %w", err)
	}
	class, findings := item.Class, []policy.Finding{}
	if r.Worse {
		findings = r.Findings
		class = policy.Gravest(class, r.Class)
	}
	added, err := marshal(findings)
	if err != nil {
		return fmt.Errorf("encode findings: %w", err)
	}
	if _, err := tx.Exec(ctx, setRescanSQL, item.ID, []byte(clean(strings.ReplaceAll(string(all), `\u0000`, ""))), string(class), added, stopped, r.Worse); err != nil {
		return fmt.Errorf("store what the engines said: %w", err)
	}
	return nil
}

func rescanEvent(item Item, r Rescan, action string, actor pg.Actor) audit.Event {
	var names, engines []any
	for _, f := range r.Findings {
		names = append(names, f.Engine+": "+f.Name)
	}
	for _, e := range r.Engines {
		engines = append(engines, e.Engine+" "+e.Version+" "+e.Database)
	}
	return audit.Event{Action: action, Workspace: item.Workspace, Actor: actor, Retention: audit.Retention3Years, ReasonCode: string(r.Class),
		Targets: []audit.Target{{Type: "quarantine_item", ID: item.ID.String(), Label: string(item.Class)}},
		After:   map[string]any{"class": string(r.Class), "worse": r.Worse, "found": names, "engines": engines}, Correlation: audit.Correlation{MailID: item.MailID.String(), ItemID: item.ID.String()}}
}

// Rescan has the engines look at a held mail now, since a person wants it.
func (s *Store) Rescan(ctx context.Context, actor pg.Actor, roles []string, id uuid.UUID, reason string) (Item, error) {
	if reason = strings.TrimSpace(clean(reason)); reason == "" {
		return Item{}, ErrReasonRequired
	}
	item, err := s.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	if s.engines == nil {
		return Item{}, ErrEnginesSilent
	}
	r, err := s.scan(ctx, item)
	if err != nil {
		return Item{}, err
	}
	err = s.db.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := lockRecipients(ctx, tx, id); err != nil {
			return err
		}
		ev := rescanEvent(item, r, audit.Rescanned, actor)
		ev.Roles, ev.Reason = roles, reason
		if _, err := s.audit.Append(ctx, tx, ev); err != nil {
			return err
		}
		return s.note(ctx, tx, item, r, false)
	})
	if err != nil {
		return Item{}, fmt.Errorf("scan item %s again: %w", id, err)
	}
	return s.Get(ctx, id)
}

// ScanBeforeRelease is the worker's, just before a released copy goes out. With
// engines silent it is [ErrEnginesSilent]: the copy waits. Worse than was known
// when people decided stops the release: [ErrStopped], and the delivery in hand
// is out of the queue.
func (s *Store) ScanBeforeRelease(ctx context.Context, releaseID, itemID, delivery uuid.UUID, owner string) error {
	if s.engines == nil {
		return nil
	}
	var last *time.Time
	if err := s.db.QueryRow(ctx, scannedAtSQL, releaseID).Scan(&last); err != nil {
		return fmt.Errorf("read release: %w", err)
	}
	item, err := s.Get(ctx, itemID)
	if err != nil {
		return err
	}
	var rel release
	if err := rel.scan(s.db.QueryRow(ctx, releaseSQL, releaseID)); err != nil {
		return fmt.Errorf("read release: %w", err)
	}
	worse := item.worseThanDecided(rel)
	if !worse && last != nil && s.now().Sub(*last) < rescanFor {
		return nil
	}
	r, err := s.scan(ctx, item)
	if err != nil && !worse {
		return err
	}
	if r.At.IsZero() { // No answer, and none is needed to stop it.
		r = Rescan{At: s.now().UTC(), Class: item.Class}
	}
	r.Worse = r.Worse || worse
	actor := pg.System("delivery", "scan at release "+releaseID.String())
	err = s.db.Act(ctx, actor, func(ctx context.Context, tx pgx.Tx) error {
		if r.Worse {
			return s.stop(ctx, tx, actor, item, r, releaseID, delivery, owner)
		}
		if _, err := lockRecipients(ctx, tx, item.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, scannedSQL, releaseID, s.now()); err != nil {
			return fmt.Errorf("note that the engines agree: %w", err)
		}
		return s.note(ctx, tx, item, r, false)
	})
	if err == nil && r.Worse {
		return ErrStopped
	}
	return err
}

// worseThanDecided says whether a scan for somebody else, such as another release
// of the same mail, has found what the people did not know who decided on rel. The
// engines say nothing new then: it is the item's already.
func (i *Item) worseThanDecided(rel release) bool {
	return i.StoppedAt != nil || rel.Mode != BySandbox && rel.Class != "" && policy.Graver(i.Class, rel.Class)
}

// stop ends a release whose mail turned out to be worse than was known.
func (s *Store) stop(ctx context.Context, tx pgx.Tx, actor pg.Actor, item Item, r Rescan, releaseID, delivery uuid.UUID, owner string) error {
	if _, err := lockRecipients(ctx, tx, item.ID); err != nil {
		return err
	}
	var rel release
	if err := rel.scan(tx.QueryRow(ctx, releaseSQL, releaseID)); err != nil {
		return fmt.Errorf("read release: %w", err)
	}
	ids, err := s.stopDeliveries(ctx, tx, releaseID, delivery, owner)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return errors.New("quarantine: the delivery is not ours any more")
	}
	if err := restoreStates(ctx, tx, rel, ids); err != nil {
		return err
	}
	if err := s.note(ctx, tx, item, r, true); err != nil {
		return err
	}
	ev := rescanEvent(item, r, audit.ReleaseStopped, actor)
	ev.Severity, ev.Outcome, ev.Correlation.CausationID = "warning", "refused", rel.Intent.String()
	ev.Targets = append(ev.Targets, audit.Target{Type: "release", ID: rel.ID.String()})
	for _, id := range ids {
		ev.Targets = append(ev.Targets, audit.Target{Type: "quarantine_recipient", ID: id.String()})
	}
	if _, err := s.audit.Append(ctx, tx, ev); err != nil {
		return err
	}
	return endRelease(ctx, tx, releaseID, "stopped")
}
