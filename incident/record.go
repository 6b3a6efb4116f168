package incident

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Significance is what people decided of an incident (Art. 23(3) NIS 2, § 2 BSIG).
type Significance string

// What can be decided.
const (
	Undecided      Significance = "undecided"
	Significant    Significance = "yes"
	NotSignificant Significance = "no"
)

// Significances are all of them.
func Significances() []Significance { return []Significance{Undecided, Significant, NotSignificant} }

// Severities of an incident, the mildest first.
func Severities() []string { return []string{"low", "medium", "high", "critical"} }

// States of an incident. They follow from its times.
func States() []string { return []string{"open", "contained", "closed"} }

// Incident is one case. Times that are zero are not known.
type Incident struct {
	ID           uuid.UUID `json:"id"`
	Workspace    uuid.UUID `json:"workspace_id"`
	Number       string    `json:"number"`
	Title        string    `json:"title"`
	Severity     string    `json:"severity"`
	State        string    `json:"state"`
	Exercise     bool      `json:"exercise"` // nothing is owed
	Owner        uuid.UUID `json:"owner_id,omitzero"`
	OwnerName    string    `json:"owner,omitempty"`
	Regime       Regime    `json:"regime"`
	TrustService bool      `json:"trust_service"`

	DetectedAt       time.Time `json:"detected_at"`
	AwareAt          time.Time `json:"aware_at,omitzero"`
	AwareUnconfirmed time.Time `json:"aware_unconfirmed_at,omitzero"`
	BreachAwareAt    time.Time `json:"breach_aware_at,omitzero"`
	RequestedFor     time.Time `json:"requested_for,omitzero"`
	ContainedAt      time.Time `json:"contained_at,omitzero"`
	ClosedAt         time.Time `json:"closed_at,omitzero"`

	Significant       Significance `json:"significant"`
	SignificantReason string       `json:"significant_reason,omitempty"`
	SignificantAt     time.Time    `json:"significant_at,omitzero"`
	SignificantBy     string       `json:"significant_by,omitempty"`

	Facts     Facts     `json:"facts"`
	Version   int64     `json:"version"`
	CreatedBy string    `json:"created_by,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Mails     int       `json:"mails"`

	// Reports are all versions, the newest version of each report first.
	Reports []Report `json:"reports" nullable:"false"`
}

// ReportState says what a version of a report says.
type ReportState string

// The states. Withdrawn: what the version before says is not so.
const (
	ReportSubmitted   ReportState = "submitted"
	ReportNotRequired ReportState = "not_required"
	ReportWithdrawn   ReportState = "withdrawn"
)

// Report is one version of what is on record about one report. It never changes.
type Report struct {
	ID          uuid.UUID   `json:"id"`
	Incident    uuid.UUID   `json:"-"`
	Stage       StageName   `json:"stage"`
	Version     int         `json:"version"`
	Supersedes  uuid.UUID   `json:"supersedes,omitzero"`
	State       ReportState `json:"state"`
	SubmittedAt time.Time   `json:"submitted_at,omitzero"`
	Channel     string      `json:"channel,omitempty"`
	Reference   string      `json:"reference,omitempty"` // of the authority
	Reason      string      `json:"reason,omitempty"`
	SHA256      string      `json:"content_sha256,omitempty"`
	By          string      `json:"by,omitempty"`
	At          time.Time   `json:"recorded_at"`
}

// Newest is the newest version of a report; its Version is 0 where there is none.
func (i Incident) Newest(s StageName) Report {
	if n := slices.IndexFunc(i.Reports, func(r Report) bool { return r.Stage == s }); n >= 0 {
		return i.Reports[n]
	}
	return Report{Stage: s}
}

// Aware is the earliest time at which somebody was aware; zero: nobody is.
func (i Incident) Aware() time.Time {
	if a := (Case{AwareAt: i.AwareAt, AwareUnconfirmedAt: i.AwareUnconfirmed}).awareTimes(); len(a) > 0 {
		return a[0]
	}
	return time.Time{}
}

// Case is the incident for the calculator. What is not significant, or is an
// exercise, is not reported: that stands as the reason unless a report says else.
func (i Incident) Case(zone *time.Location) Case {
	c := Case{Regime: i.Regime, TrustService: i.TrustService, Zone: zone, Targets: DefaultTargets(), DetectedAt: i.DetectedAt, AwareAt: i.AwareAt, AwareUnconfirmedAt: i.AwareUnconfirmed,
		RequestedFor: i.RequestedFor, ClosedAt: i.ClosedAt, BreachAwareAt: i.BreachAwareAt, Submitted: map[StageName]time.Time{}, NotRequired: map[StageName]string{}}
	for _, s := range StageNames() {
		switch r := i.Newest(s); {
		case r.State == ReportSubmitted:
			c.Submitted[s] = r.SubmittedAt
		case r.State == ReportNotRequired:
			c.NotRequired[s] = r.Reason
		case i.Significant == NotSignificant && s != GDPR33:
			c.NotRequired[s] = "not significant: " + i.SignificantReason
		}
	}
	return c
}

// Stages is how all reports stand. As long as nobody is aware of the incident there is
// at most the one about a breach of personal data, which has a clock of its own.
func (i Incident) Stages(zone *time.Location, now time.Time) ([]Stage, error) {
	switch c := i.Case(zone); {
	case !i.Aware().IsZero():
		return c.Stages(now)
	case !i.BreachAwareAt.IsZero():
		return []Stage{c.gdpr(now)}, nil
	}
	return nil, nil
}

// NextDue is the open report that is due first, nil where none is open.
func (i Incident) NextDue(zone *time.Location, now time.Time) *Stage {
	stages, err := i.Stages(zone, now)
	if err != nil {
		return nil
	}
	var next *Stage
	for n, s := range stages {
		if s.Open() && (next == nil || s.Due.Before(next.Due)) {
			next = &stages[n]
		}
	}
	return next
}

// settle puts the state in accord with the times, and checks everything that people
// may write. The error is [Mistakes].
func (i *Incident) settle(zone *time.Location, now time.Time) error {
	var m Mistakes
	i.Title, i.SignificantReason = strings.TrimSpace(i.Title), strings.TrimSpace(i.SignificantReason)
	if i.Title == "" || !goodText(i.Title, maxLine) {
		m = append(m, fmt.Sprintf("title must be text of 1 to %d bytes", maxLine))
	}
	if !slices.Contains(Severities(), i.Severity) {
		m = append(m, "severity must be one of "+strings.Join(Severities(), ", "))
	}
	if i.Significant == "" {
		i.Significant = Undecided
	}
	if !slices.Contains(Significances(), i.Significant) {
		m = append(m, "significant must be undecided, yes or no")
	} else if i.Significant == Undecided {
		i.SignificantReason = ""
	} else if i.SignificantReason == "" || !goodText(i.SignificantReason, maxText) {
		m = append(m, "say why it is significant, or why not")
	}
	facts, err := i.Facts.check()
	if err != nil {
		m = append(m, err.(Mistakes)...)
	}
	i.Facts = facts
	m = append(m, i.times(zone, now)...)
	switch i.State = "open"; {
	case !i.ClosedAt.IsZero():
		i.State = "closed"
	case !i.ContainedAt.IsZero():
		i.State = "contained"
	}
	if m != nil {
		return m
	}
	return nil
}

// times are the mistakes in what is known of when.
func (i *Incident) times(zone *time.Location, now time.Time) (m Mistakes) {
	for _, t := range []*time.Time{&i.DetectedAt, &i.AwareAt, &i.AwareUnconfirmed, &i.BreachAwareAt, &i.RequestedFor, &i.ContainedAt, &i.ClosedAt} {
		*t = t.UTC().Truncate(time.Second)
		if t.IsZero() {
			*t = time.Time{}
		} else if t.Year() < 2000 || t.Year() > 2200 {
			return Mistakes{"a time lies too far away: check its year"}
		}
	}
	switch {
	case i.DetectedAt.IsZero():
		return Mistakes{"the time of the first signal is missing"}
	case !slices.Contains(Regimes(), i.Regime):
		return Mistakes{fmt.Sprintf("regime %.20q is not known here: set bsig, cir2690 or kritis", i.Regime)}
	case !i.ContainedAt.IsZero() && i.ContainedAt.Before(i.DetectedAt):
		m = append(m, "contained is before the first signal: correct one of them")
	case !i.ContainedAt.IsZero() && i.ContainedAt.After(now):
		m = append(m, "contained lies in the future: check date, zone and offset")
	case !i.ClosedAt.IsZero() && i.ClosedAt.Before(i.ContainedAt):
		m = append(m, "closed is before contained: correct one of them")
	}
	c := i.Case(zone)
	if i.Aware().IsZero() {
		for name := range c.Submitted {
			if name == GDPR33 {
				m = append(m, c.submission(name)...)
				continue
			}
			m = append(m, "reports were submitted, so somebody was aware: give the time")
		}
		m = append(m, c.future(now)...)
		if !i.ClosedAt.IsZero() && i.ClosedAt.Before(i.DetectedAt) {
			m = append(m, "closed is before the first signal: correct one of them")
		}
		return m
	}
	if wrong, ok := c.Validate(now).(Mistakes); ok {
		m = append(m, wrong...)
	}
	return m
}

// goodText says whether a text can be kept.
func goodText(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

// NoteKinds are what notes can be about: steps of the response as Regulation
// 2024/2690, Annex 3.5 names them, and what was learned.
func NoteKinds() []string {
	return []string{"note", "containment", "eradication", "recovery", "communication", "lesson"}
}

// Note is something that was done or said. It never changes.
type Note struct {
	ID   uuid.UUID `json:"id"`
	Kind string    `json:"kind"`
	At   time.Time `json:"at"` // when it happened
	Text string    `json:"text"`
	By   string    `json:"by,omitempty"`
	Made time.Time `json:"recorded_at"`
}

// Mail is one mail of an incident. Of one that the ledger no longer has only the id
// is known.
type Mail struct {
	ID         uuid.UUID `json:"id"`
	ReceivedAt time.Time `json:"received_at,omitzero"`
	From       string    `json:"from,omitempty"`
	Subject    string    `json:"subject,omitempty"`
	Class      string    `json:"class,omitempty"`
	Action     string    `json:"action,omitempty"`
	Recipients int       `json:"recipients"`
	Delivered  int       `json:"delivered"` // copies that the next hop took
	Item       uuid.UUID `json:"item_id,omitzero"`
}

// Figures are what the mails of an incident come to, for those who decide.
type Figures struct {
	Mails      int       `json:"mails"`
	Recipients int       `json:"recipients"`
	Reached    int       `json:"reached"` // recipients to whom the next hop took a copy
	First      time.Time `json:"first,omitzero"`
	Last       time.Time `json:"last,omitzero"`
}
