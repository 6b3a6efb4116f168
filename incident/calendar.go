package incident

import (
	"fmt"
	"slices"
	"time"
)

// timeLayout is how people write a time without an offset.
const timeLayout = "2006-01-02 15:04"

// ParseTime reads a time in RFC 3339, or as "2006-01-02 15:04" on the clocks of a
// zone. A time that those clocks never showed, or showed twice, is refused: nobody
// but the writer knows which moment was meant.
func ParseTime(s string, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	wall, err := time.Parse(timeLayout, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time: write 2026-10-24 09:30 (%s) or 2026-10-24T09:30:00+02:00", s, zone)
	}
	switch r := readings(wall, zone); len(r) {
	case 0:
		return time.Time{}, fmt.Errorf("the clocks of %s never showed %s, they were set forward: write it with its offset, as in %s", zone, s, earliest(wall, zone).In(zone).Format(time.RFC3339))
	case 1:
		return r[0], nil
	default:
		return time.Time{}, fmt.Errorf("the clocks of %s showed %s twice, they were set back: write %s or %s", zone, s, r[0].In(zone).Format(time.RFC3339), r[len(r)-1].In(zone).Format(time.RFC3339))
	}
}

// nextMonth is the same day and local time one month later; where that month is
// too short, its last day.
//
// § 188 BGB and Art. 3 of Regulation 1182/71 let such a period run to the end of
// its last day. The same time of day is never later than that, so whoever keeps to
// it is on the safe side under both. Both also move an end on a weekend or holiday
// to the next working day: that is not done here, since no authority has said that
// it applies.
//
// Because the day is cut to the length of the month, a notification that is handed
// in later can have an earlier end, by up to three days: 29 January 23:00 gives
// 28 February 23:00, and 31 January 01:00 gives 28 February 01:00.
func nextMonth(t time.Time, zone *time.Location) time.Time {
	l := t.In(zone)
	y, m, d := l.Date()
	last := time.Date(y, m+2, 0, 0, 0, 0, 0, time.UTC) // day 0 of the month after next
	d = min(d, last.Day())
	return earliest(time.Date(last.Year(), last.Month(), d, l.Hour(), l.Minute(), l.Second(), l.Nanosecond(), time.UTC), zone)
}

// earliest is the moment when clocks in a zone show what wall shows in UTC.
//
// When clocks are set back, they show it twice; when they are set forward, never,
// and then it can be read with the offset from before the change or with the one
// from after it. The earlier moment is taken in both cases: a report that is in time
// for it is in time for the other reading, too. [time.Date] does not promise which
// one it takes.
func earliest(wall time.Time, zone *time.Location) time.Time {
	if r := readings(wall, zone); len(r) > 0 {
		return r[0]
	}
	// time.Date took one of the two offsets, and landed where the other is in force.
	t := date(wall, zone)
	if other := wall.Add(-offset(t, zone)); other.Before(t) {
		return other
	}
	return t
}

// readings are the moments when clocks in a zone show what wall shows in UTC, the
// earliest first: none or two around a change of the clocks, else one.
func readings(wall time.Time, zone *time.Location) []time.Time {
	t := date(wall, zone)
	offsets := []time.Duration{offset(t, zone)}
	from, to := t.In(zone).ZoneBounds()
	if !from.IsZero() {
		offsets = append(offsets, offset(from.Add(-time.Nanosecond), zone))
	}
	if !to.IsZero() {
		offsets = append(offsets, offset(to, zone))
	}
	var out []time.Time
	for _, o := range offsets {
		if r := wall.Add(-o); offset(r, zone) == o && !slices.ContainsFunc(out, r.Equal) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

func date(wall time.Time, zone *time.Location) time.Time {
	y, m, d := wall.Date()
	return time.Date(y, m, d, wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), zone).UTC()
}

func offset(t time.Time, zone *time.Location) time.Duration {
	_, s := t.In(zone).Zone()
	return time.Duration(s) * time.Second
}
