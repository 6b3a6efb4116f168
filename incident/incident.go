// Package incident keeps incidents as NIS-2 wants them shown: what happened, who
// knew of it when, whether it is significant and who decided that, what was done,
// and which reports were handed in. It calculates when each report that NIS-2, the
// BSIG and the GDPR want is due at the latest, and how each stands at a moment.
//
// It stands behind the path of a mail: mails, held or delivered, are what an incident
// is about. It sends nothing to an authority: people hand reports in, and say so here
// ([Store.Report]). Whether an incident is significant, and when somebody became aware
// of that, people say; nothing is declared by itself.
//
// [Case] is the calculator. It asks no database and no clock. Reports without a date
// in the law are not in it: what recipients of a service are told (§ 35 BSIG) is due
// when the BSI orders it, or without delay.
//
// The rules:
//
//   - Hours are clock hours, counted in UTC. Nights, weekends, holidays and changes
//     of the clocks change nothing about them.
//   - A month is the same day and local time of the next month; where that day is
//     missing, the last one.
//   - Nothing is moved to a working day.
//   - Where something can be read in two ways, the earlier end counts.
package incident

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Regime is the law that an organisation reports under.
type Regime string

// The regimes whose deadlines are known here. The deadlines are the same; the law
// that is quoted and what is in a report differ.
const (
	// BSIG is for important and particularly important entities in Germany.
	BSIG Regime = "bsig"
	// CIR2690 is for the kinds of provider that Regulation (EU) 2024/2690 lists.
	CIR2690 Regime = "cir2690"
	// KRITIS is for operators of critical plants: each report says more (§ 32(3) BSIG).
	KRITIS Regime = "kritis"
)

// Regimes are all that are known.
func Regimes() []Regime { return []Regime{BSIG, CIR2690, KRITIS} }

// ParseRegime reads the name of a regime.
func ParseRegime(s string) (Regime, error) {
	if s == "dora" {
		return "", errors.New("financial entities under DORA are exempt from § 32 BSIG (§ 28) and report under DORA, whose deadlines are not known here")
	}
	if r := Regime(s); slices.Contains(Regimes(), r) {
		return r, nil
	}
	return "", fmt.Errorf("%q is no regime that is known here: write bsig, cir2690 or kritis", s)
}

// StageName names a report.
type StageName string

// The reports, in the order of [Case.Stages].
const (
	EarlyWarning       StageName = "early_warning"
	Notification       StageName = "notification"
	Intermediate       StageName = "intermediate"
	Final              StageName = "final"
	Progress           StageName = "progress"
	FinalAfterProgress StageName = "final_after_progress"
	GDPR33             StageName = "gdpr33"
)

// StageNames are all of them.
func StageNames() []StageName {
	return []StageName{EarlyWarning, Notification, Intermediate, Final, Progress, FinalAfterProgress, GDPR33}
}

// StageList is their names, for people.
func StageList() string {
	var b strings.Builder
	for i, n := range StageNames() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(n))
	}
	return b.String()
}

// The legal maxima.
const (
	earlyWarningLimit = 24 * time.Hour
	notificationLimit = 72 * time.Hour
	// Art. 23(4) NIS 2, last subparagraph.
	trustServiceLimit = 24 * time.Hour
	gdprLimit         = 72 * time.Hour
)

// DefaultZone is where a month and a time without an offset are read.
const DefaultZone = "Europe/Berlin"

// Targets are how fast the organisation itself wants to be. The law wants reports
// without undue delay, and its hours are maxima.
type Targets struct {
	// EarlyWarning counts from awareness. Default: 8h.
	EarlyWarning time.Duration
	// Notification counts from awareness. Where the law gives 24 hours for it, the
	// target of the early warning holds. Default: 48h.
	Notification time.Duration
	// Final counts from the notification, or from the end of the handling after a
	// progress report. Default: 504h (21 days).
	Final time.Duration
}

// DefaultTargets returns the targets of an organisation that has set none.
func DefaultTargets() Targets {
	return Targets{EarlyWarning: 8 * time.Hour, Notification: 48 * time.Hour, Final: 21 * 24 * time.Hour}
}

// Case is what is known of an incident. A time that is zero is not known.
type Case struct {
	Regime Regime
	// TrustService: the incident affects trust services that the entity provides.
	TrustService bool
	// Zone is where months are counted, best that of the authority.
	Zone    *time.Location
	Targets Targets

	// DetectedAt is the first signal. No deadline runs from it.
	DetectedAt time.Time
	// AwareAt is when a person knew that the incident is significant, or may be.
	AwareAt time.Time
	// AwareUnconfirmedAt is another time of awareness that nobody has confirmed yet:
	// pre-filled, or a change. Both countdowns are shown and the earlier one counts.
	AwareUnconfirmedAt time.Time
	// RequestedFor is the date that the authority set for an intermediate report.
	RequestedFor time.Time
	// ClosedAt is when handling the incident was completed.
	ClosedAt time.Time
	// BreachAwareAt is when a breach of personal data became known. Art. 33 GDPR has
	// a clock of its own.
	BreachAwareAt time.Time

	// Submitted has the reports that were handed in.
	Submitted map[StageName]time.Time
	// NotRequired has the reports that a person decided not to owe, with the reason.
	NotRequired map[StageName]string
}

// Mistakes are all reasons why a case cannot be calculated.
type Mistakes []string

func (m Mistakes) Error() string { return strings.Join(m, "; ") }

// Validate reports everything that cannot be so at a moment. The result is nil or
// [Mistakes].
func (c Case) Validate(now time.Time) error {
	var m Mistakes
	if !slices.Contains(Regimes(), c.Regime) {
		m = append(m, fmt.Sprintf("regime %q is not known here: set bsig, cir2690 or kritis", c.Regime))
	}
	if c.Zone == nil {
		return append(m, "no time zone: set one, as "+DefaultZone)
	}
	if c.Targets.EarlyWarning <= 0 || c.Targets.Notification <= 0 || c.Targets.Final <= 0 {
		m = append(m, "internal targets must be longer than nothing")
	}
	m = append(m, c.future(now)...)
	m = append(m, c.awareness()...)
	for _, name := range slices.Sorted(maps.Keys(c.Submitted)) {
		m = append(m, c.submission(name)...)
	}
	for _, name := range slices.Sorted(maps.Keys(c.NotRequired)) {
		if !slices.Contains(StageNames(), name) {
			m = append(m, unknownStage(name))
		} else if strings.TrimSpace(c.NotRequired[name]) == "" {
			m = append(m, fmt.Sprintf("%s is said not to be required: say why", name))
		}
	}
	if len(m) == 0 {
		m = c.endings()
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// future finds what cannot have happened yet. The date that an authority set may
// lie ahead.
func (c Case) future(now time.Time) (m Mistakes) {
	check := func(what string, t time.Time) {
		if t.After(now) {
			m = append(m, fmt.Sprintf("%s %s lies in the future (it is %s): check date, zone and offset", what, c.local(t), c.local(now)))
		}
	}
	check("detected", c.DetectedAt)
	check("aware", c.AwareAt)
	check("aware (unconfirmed)", c.AwareUnconfirmedAt)
	check("closed", c.ClosedAt)
	check("aware of the breach of personal data", c.BreachAwareAt)
	for _, name := range slices.Sorted(maps.Keys(c.Submitted)) {
		check("submitted "+string(name), c.Submitted[name])
	}
	return m
}

// awareness compares what happened with the moment from which the law counts.
func (c Case) awareness() (m Mistakes) {
	aware := c.awareTimes()
	if len(aware) == 0 {
		return Mistakes{"the time of awareness is missing: give the moment when a person knew that the incident is significant or may be, or a time that is not confirmed yet"}
	}
	first := aware[0]
	if !c.DetectedAt.IsZero() && first.Before(c.DetectedAt) {
		m = append(m, fmt.Sprintf("aware %s is before the first signal %s: correct one of them, nobody knows of an incident before it is noticed", c.local(first), c.local(c.DetectedAt)))
	}
	if !c.ClosedAt.IsZero() && c.ClosedAt.Before(first) {
		m = append(m, fmt.Sprintf("closed %s is before aware %s: closed is when handling the incident was completed, not when the attack ended", c.local(c.ClosedAt), c.local(first)))
	}
	if !c.RequestedFor.IsZero() && c.RequestedFor.Before(first) {
		m = append(m, fmt.Sprintf("the authority's date %s is before aware %s: correct one of them", c.local(c.RequestedFor), c.local(first)))
	}
	return m
}

// submission looks at one report that was handed in.
func (c Case) submission(name StageName) (m Mistakes) {
	if !slices.Contains(StageNames(), name) {
		return Mistakes{unknownStage(name)}
	}
	at := c.Submitted[name]
	if _, both := c.NotRequired[name]; both {
		m = append(m, fmt.Sprintf("%s is both submitted and not required: take one of them away", name))
	}
	from, what := c.BreachAwareAt, "becoming aware of the breach of personal data"
	if name != GDPR33 {
		what = "becoming aware of the incident"
		if aware := c.awareTimes(); len(aware) > 0 {
			from = aware[0]
		}
	}
	switch {
	case at.IsZero():
		m = append(m, fmt.Sprintf("%s is submitted without a time: give it", name))
	case name == GDPR33 && from.IsZero():
		m = append(m, "gdpr33 is submitted, and the time of awareness of the breach of personal data is missing: give it")
	case at.Before(from):
		m = append(m, fmt.Sprintf("%s was submitted %s, before %s (%s): correct the one that is wrong; where people knew earlier, the time of awareness is earlier", name, c.local(at), what, c.local(from)))
	}
	return m
}

// endings finds reports at the end that do not fit to each other. Everything else is
// known to fit.
func (c Case) endings() (m Mistakes) {
	notified := c.Submitted[Notification]
	for _, name := range []StageName{Progress, Final, FinalAfterProgress} {
		at, ok := c.Submitted[name]
		switch {
		case ok && notified.IsZero():
			m = append(m, fmt.Sprintf("%s was submitted and the notification was not: give the time of the notification, its month runs from there", name))
		case ok && at.Before(notified):
			m = append(m, fmt.Sprintf("%s was submitted %s, before the notification (%s): correct one of them", name, c.local(at), c.local(notified)))
		}
	}
	if len(m) > 0 || notified.IsZero() {
		return m
	}
	due := nextMonth(notified, c.Zone)
	ended := !c.ClosedAt.IsZero() && !c.ClosedAt.After(due)
	if at, ok := c.Submitted[Final]; ok && at.After(due) && !ended {
		if c.ClosedAt.IsZero() {
			m = append(m, fmt.Sprintf("final was submitted after its date (%s): give the time of closing, which decides whether it is a late final report or the one after a progress report", c.local(due)))
		} else {
			m = append(m, fmt.Sprintf("the incident still ran at the date of the final report (%s): the report of %s is final_after_progress", c.local(due), c.local(at)))
		}
	}
	at, ok := c.Submitted[FinalAfterProgress]
	_, both := c.Submitted[Final]
	switch {
	case ok && both:
		m = append(m, "final and final_after_progress are both submitted: there is one of them, take the other away")
	case ok && (ended || !at.After(due)):
		m = append(m, fmt.Sprintf("final_after_progress is for incidents that still run at the date of the final report (%s): this one is final", c.local(due)))
	}
	return m
}

// awareTimes are the moments from which the law may count, the earliest first.
func (c Case) awareTimes() []time.Time {
	var out []time.Time
	for _, t := range []time.Time{c.AwareAt, c.AwareUnconfirmedAt} {
		if !t.IsZero() && !slices.ContainsFunc(out, t.Equal) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

// local writes a time for people.
func (c Case) local(t time.Time) string { return t.In(c.Zone).Format(timeLayout + " MST") }

func unknownStage(name StageName) string {
	return fmt.Sprintf("%q is no report that is known here: there are %s", name, StageList())
}
