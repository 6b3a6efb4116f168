package incident

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	aware    = "2026-10-24T09:30:00+02:00"
	notified = "2026-10-26T08:00:00+01:00"
)

// example is a case under the BSIG whose awareness is a day before clocks are set
// back.
func example(t *testing.T, change func(*Case)) Case {
	t.Helper()
	c := Case{Regime: BSIG, Zone: zone(t, DefaultZone), Targets: DefaultTargets(), AwareAt: at(t, aware), Submitted: map[StageName]time.Time{}, NotRequired: map[StageName]string{}}
	if change != nil {
		change(&c)
	}
	return c
}

func stagesOf(t *testing.T, c Case, now string) map[StageName]Stage {
	t.Helper()
	list, err := c.Stages(at(t, now))
	if err != nil {
		t.Fatal(err)
	}
	out := map[StageName]Stage{}
	for i, s := range list {
		if s.Name != StageNames()[i] {
			t.Errorf("stage %d is %s, want %s", i, s.Name, StageNames()[i])
		}
		out[s.Name] = s
	}
	return out
}

func TestStages_Due(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		change      func(*Case)
		stage       StageName
		due, target string
	}{
		{"24 hours over the change to winter end an hour earlier on the clock", nil, EarlyWarning, "2026-10-25T08:30:00+01:00", "2026-10-24T17:30:00+02:00"},
		{"72 hours over the change to winter", nil, Notification, "2026-10-27T08:30:00+01:00", "2026-10-26T08:30:00+01:00"},
		{"24 hours over the change to summer", func(c *Case) { c.AwareAt = at(t, "2026-03-28T09:30:00+01:00") }, EarlyWarning, "2026-03-29T10:30:00+02:00", "2026-03-28T17:30:00+01:00"},
		{"72 hours over the change to summer 2027", func(c *Case) { c.AwareAt = at(t, "2027-03-26T09:30:00+01:00") }, Notification, "2027-03-29T10:30:00+02:00", "2027-03-28T10:30:00+02:00"},
		{"an end on a holiday stays there", func(c *Case) { c.AwareAt = at(t, "2026-12-24T18:00:00+01:00") }, EarlyWarning, "2026-12-25T18:00:00+01:00", "2026-12-25T02:00:00+01:00"},
		{"trust services: 24 hours, and the target of the early warning", func(c *Case) { c.TrustService = true }, Notification, "2026-10-25T08:30:00+01:00", "2026-10-24T17:30:00+02:00"},
		{"trust services: the early warning stays", func(c *Case) { c.TrustService = true }, EarlyWarning, "2026-10-25T08:30:00+01:00", "2026-10-24T17:30:00+02:00"},
		{"a target after the limit is the limit", func(c *Case) { c.Targets.Notification = 100 * time.Hour }, Notification, "2026-10-27T08:30:00+01:00", "2026-10-27T08:30:00+01:00"},
		{"final: a month after the submission, not after awareness", func(c *Case) { c.Submitted[Notification] = at(t, notified) }, Final, "2026-11-26T08:00:00+01:00", "2026-11-16T08:00:00+01:00"},
		{"progress: at the same date", func(c *Case) { c.Submitted[Notification] = at(t, notified) }, Progress, "2026-11-26T08:00:00+01:00", "2026-11-16T08:00:00+01:00"},
		{"final: 31 January", func(c *Case) {
			c.AwareAt, c.Submitted[Notification] = at(t, "2027-01-30T10:00:00+01:00"), at(t, "2027-01-31T10:00:00+01:00")
		}, Final, "2027-02-28T10:00:00+01:00", "2027-02-21T10:00:00+01:00"},
		{"final: 31 January of a leap year", func(c *Case) {
			c.AwareAt, c.Submitted[Notification] = at(t, "2028-01-30T10:00:00+01:00"), at(t, "2028-01-31T10:00:00+01:00")
		}, Final, "2028-02-29T10:00:00+01:00", "2028-02-21T10:00:00+01:00"},
		{"final: the end of the year", func(c *Case) {
			c.AwareAt, c.Submitted[Notification] = at(t, "2026-12-30T10:00:00+01:00"), at(t, "2026-12-31T10:00:00+01:00")
		}, Final, "2027-01-31T10:00:00+01:00", "2027-01-21T10:00:00+01:00"},
		{"final: the month is counted in the zone that was given", func(c *Case) {
			c.Zone, c.Submitted[Notification] = zone(t, "Asia/Tokyo"), at(t, "2026-10-31T16:00:00+01:00") // 1 November there
		}, Final, "2026-12-01T00:00:00+09:00", "2026-11-21T16:00:00+01:00"},
		{"final after progress: a month after the end", func(c *Case) {
			c.Submitted[Notification], c.ClosedAt = at(t, notified), at(t, "2026-12-31T10:00:00+01:00")
		}, FinalAfterProgress, "2027-01-31T10:00:00+01:00", "2027-01-21T10:00:00+01:00"},
		{"intermediate: when the authority says", func(c *Case) { c.RequestedFor = at(t, "2026-11-02T12:00:00+01:00") }, Intermediate, "2026-11-02T12:00:00+01:00", ""},
		{"GDPR: 72 hours of its own", func(c *Case) { c.BreachAwareAt = at(t, "2026-10-25T09:30:00+01:00") }, GDPR33, "2026-10-28T09:30:00+01:00", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := stagesOf(t, example(t, tt.change), "2029-01-01T00:00:00Z")[tt.stage]
			if !s.Due.Equal(at(t, tt.due)) {
				t.Errorf("due %s, want %s", s.Due.UTC(), tt.due)
			}
			if tt.target == "" != s.Target.IsZero() || tt.target != "" && !s.Target.Equal(at(t, tt.target)) {
				t.Errorf("target %s, want %s", s.Target.UTC(), tt.target)
			}
		})
	}
}

func TestStages_StateOfOne(t *testing.T) {
	t.Parallel()
	sent := func(s string) func(*Case) {
		return func(c *Case) { c.Submitted[EarlyWarning] = at(t, s) }
	}
	for _, tt := range []struct {
		name, now string
		change    func(*Case)
		want      State
		late      time.Duration
	}{
		{"at once", aware, nil, Running, 0},
		{"a nanosecond more than a quarter left", "2026-10-25T02:29:59.999999999+01:00", nil, Running, 0},
		{"a quarter left", "2026-10-25T02:30:00+01:00", nil, Warn, 0},
		{"at the end", "2026-10-25T08:30:00+01:00", nil, Warn, 0},
		{"a nanosecond later", "2026-10-25T08:30:00.000000001+01:00", nil, Overdue, 0},
		{"submitted", "2026-10-25T09:00:00+01:00", sent("2026-10-24T12:00:00+02:00"), Submitted, 0},
		{"submitted at the last moment", "2026-10-25T09:00:00+01:00", sent("2026-10-25T08:30:00+01:00"), Submitted, 0},
		{"submitted late stays late", "2028-10-25T09:00:00+01:00", sent("2026-10-25T10:00:00+01:00"), Submitted, 90 * time.Minute},
		{"not required", "2026-10-26T09:00:00+01:00", func(c *Case) { c.NotRequired[EarlyWarning] = "near miss" }, NotRequired, 0},
	} {
		s := stagesOf(t, example(t, tt.change), tt.now)[EarlyWarning]
		if s.State != tt.want || s.SubmittedLateBy != tt.late {
			t.Errorf("%s: %s, late by %s; want %s, %s", tt.name, s.State, s.SubmittedLateBy, tt.want, tt.late)
		}
		if s.State == NotRequired && s.Reason != "near miss" {
			t.Errorf("%s: reason %q", tt.name, s.Reason)
		}
	}
}

// states are final, progress, final after progress.
type states [3]State

func TestStages_HowItEnds(t *testing.T) {
	t.Parallel()
	const before, after = "2026-11-10T08:00:00+01:00", "2026-12-20T08:00:00+01:00" // of 2026-11-26 08:00
	type times map[StageName]string
	for _, tt := range []struct {
		name, now, closed string
		sent              times
		want              states
	}{
		{"no notification", before, "", times{Notification: ""}, states{NotDue, NotDue, NotDue}},
		{"it runs, before the date: either may be owed", before, "", nil, states{Running, Running, NotDue}},
		{"it runs, a quarter is left", "2026-11-18T14:00:00+01:00", "", nil, states{Warn, Warn, NotDue}},
		{"it runs, at the date", "2026-11-26T08:00:00+01:00", "", nil, states{Warn, Warn, NotDue}},
		{"it runs, after the date", after, "", nil, states{Superseded, Overdue, NotDue}},
		{"closed before the date", before, "2026-11-09T08:00:00+01:00", nil, states{Running, NotRequired, NotRequired}},
		{"closed at the date", after, "2026-11-26T08:00:00+01:00", nil, states{Overdue, NotRequired, NotRequired}},
		{"closed before the date, and nothing came", after, "2026-11-09T08:00:00+01:00", nil, states{Overdue, NotRequired, NotRequired}},
		{"closed before the date, final in time", after, "2026-11-09T08:00:00+01:00", times{Final: "2026-11-20T08:00:00+01:00"}, states{Submitted, NotRequired, NotRequired}},
		{"closed before the date, final late", after, "2026-11-09T08:00:00+01:00", times{Final: "2026-12-01T08:00:00+01:00"}, states{Submitted, NotRequired, NotRequired}},
		{"final in time, closed formally later", after, "2026-12-01T08:00:00+01:00", times{Final: "2026-11-20T08:00:00+01:00"}, states{Submitted, NotRequired, NotRequired}},
		{"final in time, never closed", after, "", times{Final: "2026-11-20T08:00:00+01:00"}, states{Submitted, NotRequired, NotRequired}},
		{"progress in time, it runs on", after, "", times{Progress: "2026-11-25T08:00:00+01:00"}, states{Superseded, Submitted, NotDue}},
		{"progress before the date, it runs", before, "", times{Progress: "2026-11-05T08:00:00+01:00"}, states{Superseded, Submitted, NotDue}},
		{"progress before the date, but then it ended before it", before, "2026-11-09T08:00:00+01:00", times{Progress: "2026-11-05T08:00:00+01:00"}, states{Running, Submitted, NotRequired}},
		{"progress late, closed after the date", after, "2026-12-01T08:00:00+01:00", times{Progress: "2026-11-27T08:00:00+01:00"}, states{Superseded, Submitted, Running}},
		{"closed after the date without a progress report: that stays overdue", after, "2026-12-01T08:00:00+01:00", nil, states{Superseded, Overdue, Running}},
		{"final after progress is near", "2026-12-28T08:00:00+01:00", "2026-12-01T08:00:00+01:00", times{Progress: "2026-11-25T08:00:00+01:00"}, states{Superseded, Submitted, Warn}},
		{"final after progress is overdue", "2027-01-02T08:00:00+01:00", "2026-12-01T08:00:00+01:00", times{Progress: "2026-11-25T08:00:00+01:00"}, states{Superseded, Submitted, Overdue}},
		{"all done", "2027-01-02T08:00:00+01:00", "2026-12-01T08:00:00+01:00", times{Progress: "2026-11-25T08:00:00+01:00", FinalAfterProgress: "2026-12-15T08:00:00+01:00"}, states{Superseded, Submitted, Submitted}},
		{"all done, not closed formally", "2027-01-02T08:00:00+01:00", "", times{Progress: "2026-11-25T08:00:00+01:00", FinalAfterProgress: "2026-12-15T08:00:00+01:00"}, states{Superseded, Submitted, Submitted}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := example(t, func(c *Case) { c.Submitted[Notification] = at(t, notified) })
			for name, s := range tt.sent {
				if delete(c.Submitted, name); s != "" {
					c.Submitted[name] = at(t, s)
				}
			}
			if tt.closed != "" {
				c.ClosedAt = at(t, tt.closed)
			}
			got := stagesOf(t, c, tt.now)
			if now := (states{got[Final].State, got[Progress].State, got[FinalAfterProgress].State}); now != tt.want {
				t.Errorf("%v, want %v", now, tt.want)
			}
			for _, s := range got {
				if explained := s.State == NotDue || s.State == NotRequired || s.State == Superseded; explained != (s.Reason != "") {
					t.Errorf("%s is %s, for the reason %q", s.Name, s.State, s.Reason)
				}
			}
		})
	}
}

func TestStages_LateReportsStayLate(t *testing.T) {
	t.Parallel()
	c := example(t, func(c *Case) {
		c.Submitted = map[StageName]time.Time{
			EarlyWarning: at(t, "2026-10-25T09:30:00+01:00"), Notification: at(t, "2026-10-28T08:30:00+01:00"), Intermediate: at(t, "2026-11-03T00:00:00+01:00"),
			Progress: at(t, "2026-11-28T09:30:00+01:00"), FinalAfterProgress: at(t, "2027-01-02T08:00:00+01:00"), GDPR33: at(t, "2026-10-28T10:30:00+01:00"),
		}
		c.RequestedFor, c.ClosedAt, c.BreachAwareAt = at(t, "2026-11-02T00:00:00+01:00"), at(t, "2026-12-01T08:00:00+01:00"), at(t, "2026-10-25T09:30:00+01:00")
	})
	got := stagesOf(t, c, "2027-06-01T00:00:00Z")
	for name, want := range map[StageName]time.Duration{EarlyWarning: time.Hour, Notification: 24 * time.Hour, Intermediate: 24 * time.Hour, Progress: time.Hour, FinalAfterProgress: 24 * time.Hour, GDPR33: time.Hour} {
		if s := got[name]; s.State != Submitted || s.SubmittedLateBy != want {
			t.Errorf("%s: %s, late by %s; want %s", name, s.State, s.SubmittedLateBy, want)
		}
	}
}

func TestStages_NothingAskedFor(t *testing.T) {
	t.Parallel()
	got := stagesOf(t, example(t, func(c *Case) { c.NotRequired[Notification] = "not significant after all" }), "2026-10-26T08:00:00+01:00")
	for _, name := range []StageName{Notification, Intermediate, Final, Progress, FinalAfterProgress, GDPR33} {
		if s := got[name]; s.State != NotRequired || s.Reason == "" {
			t.Errorf("%s: %s %q", name, s.State, s.Reason)
		}
	}
}

func TestStages_UnconfirmedAwareness(t *testing.T) {
	t.Parallel()
	earlier, later := "2026-10-24T07:00:00+02:00", "2026-10-24T12:00:00+02:00"
	for _, tt := range []struct {
		name, aware, unconfirmed, from, beside string
	}{
		{"pre-filled, nobody has confirmed it", "", earlier, earlier, ""},
		{"a change to an earlier time", aware, earlier, earlier, aware},
		{"a change to a later time does not help yet", aware, later, aware, later},
		{"the same time", aware, aware, aware, ""},
	} {
		c := example(t, func(c *Case) {
			c.AwareAt, c.AwareUnconfirmedAt = time.Time{}, at(t, tt.unconfirmed)
			if tt.aware != "" {
				c.AwareAt = at(t, tt.aware)
			}
		})
		for name, limit := range map[StageName]time.Duration{EarlyWarning: 24 * time.Hour, Notification: 72 * time.Hour} {
			s := stagesOf(t, c, "2026-10-24T12:00:00+02:00")[name]
			if !s.From.Equal(at(t, tt.from)) || s.Due.Sub(s.From) != limit || s.Note == "" {
				t.Errorf("%s: %s from %s to %s (%s)", tt.name, name, s.From, s.Due, s.Note)
			}
			if tt.beside == "" != (s.Later == nil) || s.Later != nil && (!s.Later.From.Equal(at(t, tt.beside)) || s.Later.Due.Sub(s.Later.From) != limit) {
				t.Errorf("%s: %s beside it %+v", tt.name, name, s.Later)
			}
		}
	}
}

func TestStages_LawAndNotes(t *testing.T) {
	t.Parallel()
	for regime, want := range map[Regime]string{BSIG: "§ 32(1) Nr. 1 BSIG", KRITIS: "§ 32(1) Nr. 1 BSIG", CIR2690: "Art. 23(4)(a) NIS 2"} {
		got := stagesOf(t, example(t, func(c *Case) { c.Regime = regime }), aware)
		if got[EarlyWarning].Law != want || got[GDPR33].Law != "Art. 33(1) GDPR" {
			t.Errorf("%s: %+v", regime, got)
		}
		if plant := strings.Contains(got[EarlyWarning].Note, "§ 32(3) BSIG"); plant != (regime == KRITIS) {
			t.Errorf("%s: note %q", regime, got[EarlyWarning].Note)
		}
		if figure := strings.Contains(got[FinalAfterProgress].Note, "names no time"); figure != (regime != CIR2690) {
			t.Errorf("%s: note %q", regime, got[FinalAfterProgress].Note)
		}
	}
	got := stagesOf(t, example(t, func(c *Case) { c.Submitted[Notification] = at(t, notified) }), notified)
	if s := got[EarlyWarning]; s.State != Overdue || !strings.Contains(s.Note, "if the early warning was in it") {
		t.Errorf("a notification is no early warning by itself: %+v", s)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	const now = "2027-01-02T12:00:00+01:00"
	sent := func(name StageName, s string) func(*Case) {
		return func(c *Case) { c.Submitted[Notification] = at(t, notified); c.Submitted[name] = at(t, s) }
	}
	for _, tt := range []struct {
		want   string
		change func(*Case)
	}{
		{"set bsig, cir2690 or kritis", func(c *Case) { c.Regime = "dora" }},
		{"no time zone", func(c *Case) { c.Zone = nil }},
		{"internal targets", func(c *Case) { c.Targets.Final = 0 }},
		{"aware 2027-01-02 12:01 CET lies in the future (it is 2027-01-02 12:00 CET): check date, zone and offset", func(c *Case) { c.AwareAt = at(t, "2027-01-02T12:01:00+01:00") }},
		{"aware (unconfirmed)", func(c *Case) { c.AwareUnconfirmedAt = at(t, "2027-02-02T12:00:00+01:00") }},
		{"closed 2027-02-02", func(c *Case) { c.ClosedAt = at(t, "2027-02-02T12:00:00+01:00") }},
		{"submitted notification", func(c *Case) { c.Submitted[Notification] = at(t, "2027-02-02T12:00:00+01:00") }},
		{"aware of the breach", func(c *Case) { c.BreachAwareAt = at(t, "2027-02-02T12:00:00+01:00") }},
		{"time of awareness is missing", func(c *Case) { c.AwareAt = time.Time{} }},
		{"before the first signal", func(c *Case) { c.DetectedAt = at(t, "2026-10-24T09:31:00+02:00") }},
		{"closed is when handling", func(c *Case) { c.ClosedAt = at(t, "2026-10-24T09:00:00+02:00") }},
		{"the authority's date", func(c *Case) { c.RequestedFor = at(t, "2026-10-24T09:00:00+02:00") }},
		{"notification was submitted 2026-10-24 09:29 CEST, before becoming aware of the incident (2026-10-24 09:30 CEST): correct", sent(Notification, "2026-10-24T09:29:00+02:00")},
		{"early_warning was submitted", sent(EarlyWarning, "2026-10-24T09:29:00+02:00")},
		{"breach of personal data is missing", sent(GDPR33, "2026-10-26T09:29:00+02:00")},
		{"submitted without a time", func(c *Case) { c.Submitted[Notification] = time.Time{} }},
		{"no report that is known here", func(c *Case) { c.Submitted["finale"] = at(t, notified) }},
		{"no report that is known here", func(c *Case) { c.NotRequired["finale"] = "x" }},
		{"say why", func(c *Case) { c.NotRequired[Final] = " " }},
		{"both submitted and not required", func(c *Case) { c.Submitted[Notification] = at(t, notified); c.NotRequired[Notification] = "x" }},
		{"the notification was not", func(c *Case) { c.Submitted[Progress] = at(t, notified) }},
		{"before the notification", sent(Final, "2026-10-26T07:00:00+01:00")},
		{"give the time of closing", sent(Final, "2026-12-01T07:00:00+01:00")},
		{"is final_after_progress", func(c *Case) {
			sent(Final, "2026-12-15T07:00:00+01:00")(c)
			c.ClosedAt = at(t, "2026-12-01T08:00:00+01:00")
		}},
		{"this one is final", sent(FinalAfterProgress, "2026-11-20T07:00:00+01:00")},
		{"this one is final", func(c *Case) {
			sent(FinalAfterProgress, "2026-12-20T07:00:00+01:00")(c)
			c.ClosedAt = at(t, "2026-11-20T08:00:00+01:00")
		}},
		{"there is one of them", func(c *Case) {
			sent(Final, "2026-11-20T07:00:00+01:00")(c)
			c.Submitted[FinalAfterProgress] = at(t, "2026-12-20T07:00:00+01:00")
		}},
	} {
		_, err := example(t, tt.change).Stages(at(t, now))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	c := example(t, func(c *Case) { c.Regime, c.DetectedAt = "x", at(t, "2028-01-01T00:00:00Z") })
	if err := c.Validate(at(t, now)); err == nil || strings.Count(err.Error(), "; ") != 2 {
		t.Errorf("all mistakes at once: %v", err)
	}
}

func TestParseRegime(t *testing.T) {
	t.Parallel()
	for _, r := range Regimes() {
		if got, err := ParseRegime(string(r)); got != r || err != nil {
			t.Errorf("%s: %s %v", r, got, err)
		}
	}
	for s, want := range map[string]string{"dora": "exempt from § 32 BSIG", "": "write bsig", "BSIG": "write bsig"} {
		if _, err := ParseRegime(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

// What holds for every case: nothing is due before its clock starts, a later
// awareness is never due earlier, states only go one way, and no case that is
// accepted falls over.
func TestStages_Always(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(32, 23))
	start := at(t, "2026-09-01T00:00:00Z")
	moment := func() time.Time { return start.Add(time.Duration(random.Int64N(int64(300 * 24 * time.Hour)))) }
	order := []State{NotDue, Running, Warn, Overdue}
	accepted := 0
	for range 20_000 {
		c := example(t, func(c *Case) {
			c.AwareAt, c.TrustService, c.Regime = start.Add(time.Duration(random.Int64N(int64(60*24*time.Hour)))), random.IntN(2) == 0, Regimes()[random.IntN(3)]
			for _, name := range StageNames() {
				if random.IntN(3) == 0 {
					c.Submitted[name] = c.AwareAt.Add(time.Duration(random.Int64N(int64(60 * 24 * time.Hour))))
				}
			}
			for _, at := range []*time.Time{&c.AwareUnconfirmedAt, &c.ClosedAt, &c.RequestedFor, &c.BreachAwareAt} {
				if random.IntN(3) == 0 {
					*at = moment()
				}
			}
		})
		now := start.AddDate(1, 0, 0)
		early, err := c.Stages(now)
		if err != nil {
			continue
		}
		accepted++
		for _, s := range early {
			describe := func() string { return fmt.Sprintf("%+v\nof %+v", s, c) }
			if s.Due.Before(s.From) || s.Due.IsZero() != s.From.IsZero() || !s.Target.IsZero() && (s.Target.After(s.Due) || s.Target.Before(s.From)) {
				t.Fatal("before its start: ", describe())
			}
			if s.State == Running || s.State == Warn {
				t.Fatal("runs after all ends: ", describe())
			}
		}
		later := c
		later.AwareAt = c.AwareAt.Add(time.Hour)
		if then, err := later.Stages(now); err == nil {
			for i := range then {
				if then[i].Due.Before(early[i].Due) {
					t.Fatalf("%s: aware later, due earlier: %+v", then[i].Name, c)
				}
			}
		}
		one := example(t, func(o *Case) { o.AwareAt = c.AwareAt })
		last := 0
		for h := 0; h < 100; h += 7 {
			s := stagesOf(t, one, c.AwareAt.Add(time.Duration(h)*time.Hour).Format(time.RFC3339Nano))[Notification]
			if n := slices.Index(order, s.State); n < last {
				t.Fatalf("%s after %s", s.State, order[last])
			} else {
				last = n
			}
		}
	}
	if accepted < 100 {
		t.Errorf("only %d cases of 20000 were accepted", accepted)
	}
}
