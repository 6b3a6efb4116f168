// Package digest tells recipients what is held for them, and acts on their links.
//
// It is beside a mail's path: a job looks by the schedule of each workspace who
// has something new, and gives the delivery queue a mail with one link for each
// held copy. A link shows a page; only its form acts, so that scanners that follow
// links do nothing. What it does is [quarantine.Store.Release], in the name of the
// recipient.
package digest

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mailward/audit"
	"mailward/internal/pg"
	"mailward/policy"
	"mailward/quarantine"
)

//go:embed queries/*.sql
var queryFiles embed.FS

var (
	settingSQL    = pg.Query(queryFiles, "setting")
	settingsSQL   = pg.Query(queryFiles, "settings")
	putSettingSQL = pg.Query(queryFiles, "put_setting")
)

// What the package answers where it refuses.
var (
	ErrSetting  = errors.New("digest: hours are 0 to 23, weekdays 1 to 7, the time zone a name as Europe/Berlin, and the classes those that may be told of")
	ErrConflict = errors.New("digest: somebody has changed the settings meanwhile")
	ErrLink     = errors.New("digest: the link does not count any more")
	ErrNothing  = errors.New("digest: there is nothing to tell")
)

// Timetable is when and of what a workspace tells its recipients.
type Timetable struct {
	Enabled  bool           `json:"enabled"`
	Hours    []int          `json:"hours" nullable:"false" doc:"0 to 23"`
	Weekdays []int          `json:"weekdays" nullable:"false" doc:"1 is Monday"`
	TimeZone string         `json:"time_zone"`
	Language string         `json:"language" enum:"en,de"`
	Release  []policy.Class `json:"release" nullable:"false" doc:"that recipients may have delivered: spam, broken, encrypted"`
	Request  []policy.Class `json:"request" nullable:"false" doc:"that they may ask for: these, phishing and suspicious"`
	Version  int64          `json:"version"`
}

// Default is what counts where nobody has set anything: nobody is told.
func Default() Timetable {
	return Timetable{Hours: []int{8}, Weekdays: []int{1, 2, 3, 4, 5}, TimeZone: "UTC", Language: "en", Release: []policy.Class{policy.Spam}, Request: []policy.Class{}}
}

// Releasable and Requestable are the classes that can be told of. Malware never
// is, whatever somebody sets.
func Releasable() []policy.Class { return []policy.Class{policy.Spam, policy.Broken, policy.Encrypted} }

// Requestable are those that recipients can ask for.
func Requestable() []policy.Class { return append(Releasable(), policy.Phishing, policy.Suspicious) }

func (s Timetable) valid() bool {
	in := func(list []int, from, to int) bool {
		return len(list) > 0 && len(list) <= to-from+1 && !slices.ContainsFunc(list, func(n int) bool { return n < from || n > to })
	}
	only := func(list, of []policy.Class) bool {
		return !slices.ContainsFunc(list, func(c policy.Class) bool { return !slices.Contains(of, c) })
	}
	_, err := time.LoadLocation(s.TimeZone)
	return err == nil && s.TimeZone != "" && s.TimeZone != "Local" && in(s.Hours, 0, 23) && in(s.Weekdays, 1, 7) && (s.Language == "en" || s.Language == "de") &&
		only(s.Release, Releasable()) && only(s.Request, Requestable())
}

// classes are all that recipients are told of.
func (s Timetable) classes() []string {
	var out []string
	for _, c := range slices.Concat(s.Release, s.Request) {
		out = append(out, string(c))
	}
	return out
}

// Last is the latest time of the schedule that is not after now.
func (s Timetable) Last(now time.Time) time.Time {
	zone, err := time.LoadLocation(s.TimeZone)
	if err != nil {
		zone = time.UTC
	}
	local := now.In(zone)
	var best time.Time
	for day := range 8 {
		d := local.AddDate(0, 0, -day)
		if !slices.Contains(s.Weekdays, isoWeekday(d)) {
			continue
		}
		for _, h := range s.Hours {
			at := time.Date(d.Year(), d.Month(), d.Day(), h, 0, 0, 0, zone)
			if !at.After(now) && at.After(best) {
				best = at
			}
		}
		if !best.IsZero() {
			break
		}
	}
	return best
}

func isoWeekday(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 }

// Postman puts a mail of ours into the delivery queue, in the caller's
// transaction.
type Postman interface {
	Post(ctx context.Context, tx pgx.Tx, workspace uuid.UUID, to string, raw []byte) (uuid.UUID, error)
}

// Config is how digests look, and how long their links count.
type Config struct {
	Hostname  string
	PublicURL string // where links lead
	Key       []byte // for their signatures
	// LinkFor is how long a link counts. Default: 7 days.
	LinkFor time.Duration
}

// Deps are the parts that the package works with.
type Deps struct {
	Log     *slog.Logger
	DB      *pg.DB
	Held    *quarantine.Store
	Audit   *audit.Log
	Postman Postman
	Now     func() time.Time // default time.Now
}

// Store is the digests.
type Store struct {
	cfg  Config
	deps Deps
	now  func() time.Time
}

// New returns a Store that sends nothing until [Store.Run].
func New(cfg Config, deps Deps) *Store {
	if cfg.LinkFor == 0 {
		cfg.LinkFor = 7 * 24 * time.Hour
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Store{cfg: cfg, deps: deps, now: deps.Now}
}

// Timetable reads what counts in a workspace.
func (s *Store) Timetable(ctx context.Context, workspace uuid.UUID) (Timetable, error) {
	out, err := scanTimetable(s.deps.DB.QueryRow(ctx, settingSQL, workspace))
	if errors.Is(err, pgx.ErrNoRows) {
		return Default(), nil
	}
	if err != nil {
		return out, fmt.Errorf("read settings of digests: %w", err)
	}
	return out, nil
}

func scanTimetable(row pgx.Row) (out Timetable, err error) {
	err = row.Scan(&out.Enabled, &out.Hours, &out.Weekdays, &out.TimeZone, &out.Language, &out.Release, &out.Request, &out.Version)
	return out, err
}

// Put changes it, if it is still of the version that was looked at.
func (s *Store) Put(ctx context.Context, actor pg.Actor, workspace uuid.UUID, set Timetable, reason string) error {
	if !set.valid() {
		return ErrSetting
	}
	if reason == "" {
		return quarantine.ErrReasonRequired
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make id: %w", err)
	}
	release, request := names(set.Release), names(set.Request)
	err = s.deps.DB.Act(pg.WithReason(ctx, reason), actor, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, putSettingSQL, id, workspace, set.Enabled, set.Hours, set.Weekdays, set.TimeZone, set.Language, release, request, set.Version)
		if err == nil && tag.RowsAffected() == 0 {
			return ErrConflict
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("store settings of digests: %w", err)
	}
	return nil
}

func names(list []policy.Class) []string {
	out := []string{}
	for _, c := range list {
		out = append(out, string(c))
	}
	return out
}
