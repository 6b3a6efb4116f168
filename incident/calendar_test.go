package incident

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNextMonth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, zone, from, want string }{
		{"an ordinary day", "Europe/Berlin", "2026-05-10T09:30:00+02:00", "2026-06-10T09:30:00+02:00"},
		{"31 January", "Europe/Berlin", "2027-01-31T10:00:00+01:00", "2027-02-28T10:00:00+01:00"},
		{"31 January of a leap year", "Europe/Berlin", "2028-01-31T10:00:00+01:00", "2028-02-29T10:00:00+01:00"},
		{"30 January", "Europe/Berlin", "2027-01-30T10:00:00+01:00", "2027-02-28T10:00:00+01:00"},
		{"29 February", "Europe/Berlin", "2028-02-29T10:00:00+01:00", "2028-03-29T10:00:00+02:00"},
		{"28 February, the last day, is not the last day in March", "Europe/Berlin", "2027-02-28T10:00:00+01:00", "2027-03-28T10:00:00+02:00"},
		{"31 March", "Europe/Berlin", "2027-03-31T10:00:00+02:00", "2027-04-30T10:00:00+02:00"},
		{"31 December", "Europe/Berlin", "2026-12-31T23:59:59+01:00", "2027-01-31T23:59:59+01:00"},
		{"30 November", "Europe/Berlin", "2026-11-30T12:00:00+01:00", "2026-12-30T12:00:00+01:00"},
		{"2100 is no leap year", "Europe/Berlin", "2100-01-31T10:00:00+01:00", "2100-02-28T10:00:00+01:00"},

		// The day is the one on the clocks of the zone, not in UTC.
		{"1 March here, 28 February in UTC", "Europe/Berlin", "2027-02-28T23:30:00Z", "2027-04-01T00:30:00+02:00"},

		// 25 October 2026: back from 03:00 CEST to 02:00 CET.
		{"over the change to winter", "Europe/Berlin", "2026-10-01T09:00:00+02:00", "2026-11-01T09:00:00+01:00"},
		{"02:30 is shown twice: the first", "Europe/Berlin", "2026-09-25T02:30:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"02:00 is shown twice: the first", "Europe/Berlin", "2026-09-25T02:00:00+02:00", "2026-10-25T02:00:00+02:00"},
		{"01:59:59 is shown once", "Europe/Berlin", "2026-09-25T01:59:59+02:00", "2026-10-25T01:59:59+02:00"},
		{"03:00 is shown once", "Europe/Berlin", "2026-09-25T03:00:00+02:00", "2026-10-25T03:00:00+01:00"},
		{"from the second 02:30", "Europe/Berlin", "2026-10-25T02:30:00+01:00", "2026-11-25T02:30:00+01:00"},

		// 28 March 2027: forward from 02:00 CET to 03:00 CEST.
		{"over the change to summer", "Europe/Berlin", "2027-03-01T09:00:00+01:00", "2027-04-01T09:00:00+02:00"},
		{"02:30 is never shown: as if in summer time, which is earlier", "Europe/Berlin", "2027-02-28T02:30:00+01:00", "2027-03-28T01:30:00+01:00"},
		{"02:00 is never shown", "Europe/Berlin", "2027-02-28T02:00:00+01:00", "2027-03-28T01:00:00+01:00"},
		{"01:59 is shown", "Europe/Berlin", "2027-02-28T01:59:00+01:00", "2027-03-28T01:59:00+01:00"},
		{"03:00 is shown", "Europe/Berlin", "2027-02-28T03:00:00+01:00", "2027-03-28T03:00:00+02:00"},

		// The same west of Greenwich, where offsets are negative, and with odd changes.
		{"never shown in New York", "America/New_York", "2027-02-14T02:30:00-05:00", "2027-03-14T01:30:00-05:00"},
		{"shown twice in New York", "America/New_York", "2027-10-07T01:30:00-04:00", "2027-11-07T01:30:00-04:00"},
		{"half an hour, Lord Howe", "Australia/Lord_Howe", "2027-03-04T01:45:00+11:00", "2027-04-04T01:45:00+11:00"},
		{"a day that never was, Samoa", "Pacific/Apia", "2011-11-30T12:00:00-10:00", "2011-12-29T12:00:00-10:00"},
		{"no changes", "UTC", "2026-09-25T02:30:00Z", "2026-10-25T02:30:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			z := zone(t, tt.zone)
			if got := nextMonth(at(t, tt.from), z); !got.Equal(at(t, tt.want)) {
				t.Errorf("a month after %s is %s, want %s", tt.from, got.In(z).Format(time.RFC3339), tt.want)
			}
		})
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want, mistake string }{
		{in: "2026-10-24T09:30:00+02:00", want: "2026-10-24T07:30:00Z"},
		{in: "2026-10-24T09:30:00Z", want: "2026-10-24T09:30:00Z"},
		{in: "2026-10-24 09:30", want: "2026-10-24T07:30:00Z"},
		{in: "2026-12-24 09:30", want: "2026-12-24T08:30:00Z"},
		{in: "2026-10-25 01:59", want: "2026-10-24T23:59:00Z"},
		{in: "2026-10-25 03:00", want: "2026-10-25T02:00:00Z"},
		{in: "2026-10-25T02:30:00+01:00", want: "2026-10-25T01:30:00Z"},
		{in: "2026-10-25 02:30", mistake: "2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"},
		{in: "2027-03-28 02:30", mistake: "never showed 2027-03-28 02:30"},
		{in: "2027-03-28 03:00", want: "2027-03-28T01:00:00Z"},
		{in: "2027-02-29 10:00", mistake: "is no time"},
		{in: "24.10.2026 09:30", mistake: "write 2026-10-24 09:30 (Europe/Berlin)"},
		{in: "2026-10-24", mistake: "is no time"},
		{in: "", mistake: "is no time"},
	} {
		got, err := ParseTime(tt.in, zone(t, DefaultZone))
		switch {
		case tt.mistake == "" && (err != nil || !got.Equal(at(t, tt.want))):
			t.Errorf("%q: %s, %v; want %s", tt.in, got, err, tt.want)
		case tt.mistake != "" && (err == nil || !strings.Contains(err.Error(), tt.mistake)):
			t.Errorf("%q: %s, %v; want a mistake with %q", tt.in, got, err, tt.mistake)
		}
	}
}

// What holds for every moment in every kind of zone.
func TestNextMonth_Always(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(2026, 1025))
	from, to := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Apia", "UTC"} {
		z := zone(t, name)
		for range 4_000 {
			start := time.Unix(from+random.Int64N(to-from), 0)
			due := nextMonth(start, z)
			if d := due.Sub(start); d < 27*24*time.Hour || d > 32*24*time.Hour {
				t.Fatalf("%s: a month after %s is %s later", name, start.In(z), d)
			}
			s, e := start.In(z), due.In(z)
			wall := time.Date(s.Year(), s.Month()+1, min(s.Day(), daysIn(s.Year(), s.Month()+1)), s.Hour(), s.Minute(), s.Second(), 0, time.UTC)
			shown := time.Date(e.Year(), e.Month(), e.Day(), e.Hour(), e.Minute(), e.Second(), 0, time.UTC)
			all := readings(wall, z)
			if len(all) > 0 && (!due.Equal(all[0]) || !shown.Equal(wall)) || len(all) == 0 && !shown.Before(wall) {
				t.Fatalf("%s: a month after %s is %s", name, s, e)
			}
			// Nobody finds an earlier moment with these clocks by looking around.
			for m := due.Add(-3 * time.Hour); len(all) > 0 && m.Before(due); m = m.Add(30 * time.Minute) {
				if m.In(z).Format(time.DateTime) == wall.Format(time.DateTime) {
					t.Fatalf("%s: a month after %s is %s, and %s is earlier", name, s, e, m.In(z))
				}
			}
		}
	}
}

func daysIn(y int, m time.Month) int { return time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day() }
