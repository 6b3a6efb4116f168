package incident

import "time"

// State says how a report stands at a moment.
type State string

// The states.
const (
	// NotDue: its clock does not run. Reason says what starts it.
	NotDue  State = "not_due"
	Running State = "running"
	// Warn: a quarter of its time, or less, is left.
	Warn State = "warn"
	// Overdue: the legal maximum has passed and nothing was handed in.
	Overdue State = "overdue"
	// Submitted, also when late: then SubmittedLateBy stays above zero.
	Submitted   State = "submitted"
	NotRequired State = "not_required"
	// Superseded: another report takes its place. Reason says which.
	Superseded State = "superseded"
)

// Countdown is a time that runs out.
type Countdown struct {
	From time.Time `json:"from"`
	Due  time.Time `json:"due"`
}

// Stage is one report at a moment.
type Stage struct {
	Name StageName `json:"stage"`
	Law  string    `json:"law"`
	// From is what Due counts from; both are zero while its clock does not run.
	From time.Time `json:"from,omitzero"`
	// Due is the legal maximum.
	Due time.Time `json:"due,omitzero"`
	// Target is the organisation's own; zero where it has none.
	Target time.Time `json:"target,omitzero"`
	State  State     `json:"state"`
	// Reason is set for NotDue, NotRequired and Superseded.
	Reason string `json:"reason,omitempty"`
	// Note is what else there is to know, for people.
	Note            string        `json:"note,omitempty"`
	SubmittedAt     time.Time     `json:"submitted_at,omitzero"`
	SubmittedLateBy time.Duration `json:"-"`
	// Later is the countdown that runs beside Due while the time of awareness is not
	// confirmed.
	Later *Countdown `json:"later_countdown,omitempty"`
}

// Open says whether somebody still has to hand it in.
func (s Stage) Open() bool { return s.State == Running || s.State == Warn || s.State == Overdue }

// Stages returns all reports as they stand at a moment.
func (c Case) Stages(now time.Time) ([]Stage, error) {
	if err := c.Validate(now); err != nil {
		return nil, err
	}
	stages := []Stage{c.earlyWarning(now), c.notification(now), c.intermediate(now)}
	stages = append(stages, c.ending(now)...)
	if c.Regime == KRITIS {
		for i := range stages {
			if !stages[i].Open() {
				continue
			}
			stages[i].note("§ 32(3) BSIG: also the kind of plant, the critical service, and the effect on it")
		}
	}
	return append(stages, c.gdpr(now)), nil
}

func (c Case) earlyWarning(now time.Time) Stage {
	s := c.fromAwareness(EarlyWarning, earlyWarningLimit, c.Targets.EarlyWarning)
	s.stand(c, now)
	if at, ok := c.Submitted[Notification]; ok && s.Open() {
		// The law knows no notification that makes up for it. Saying that it was part
		// of it is up to a person.
		s.note("a notification was submitted " + c.local(at) + "; if the early warning was in it, record it with that time")
	}
	return s
}

func (c Case) notification(now time.Time) Stage {
	limit, target := notificationLimit, c.Targets.Notification
	if c.TrustService {
		limit, target = trustServiceLimit, c.Targets.EarlyWarning
	}
	s := c.fromAwareness(Notification, limit, target)
	if c.TrustService {
		s.Law = "Art. 23(4) NIS 2 (trust services)"
	}
	s.stand(c, now)
	return s
}

// intermediate is due when the authority says. When it asked is not known here:
// counting from awareness makes the whole time as long as it can be, so that the
// warning comes early.
func (c Case) intermediate(now time.Time) Stage {
	s := c.stage(Intermediate)
	if !c.RequestedFor.IsZero() {
		s.From, s.Due = c.awareTimes()[0], c.RequestedFor
	}
	s.stand(c, now)
	if s.State == NotDue {
		s.State, s.Reason = NotRequired, "the authority has not asked for one"
	}
	return s
}

// ending are the final report, the progress report that takes its place while the
// incident runs, and the final report after that.
func (c Case) ending(now time.Time) []Stage {
	final, progress, after := c.stage(Final), c.stage(Progress), c.stage(FinalAfterProgress)
	if c.Regime != CIR2690 {
		after.note("§ 32(2) BSIG names no time; one month is from Art. 23(4)(e) NIS 2")
	}
	notified, ok := c.Submitted[Notification]
	if !ok {
		for _, s := range []*Stage{&final, &progress, &after} {
			s.stand(c, now)
			s.waits("its month runs from the submission of the notification")
			if _, none := c.NotRequired[Notification]; none {
				s.become(NotRequired, "there is no notification that it would follow")
			}
		}
		return []Stage{final, progress, after}
	}
	due := nextMonth(notified, c.Zone)
	for _, s := range []*Stage{&final, &progress} {
		s.From, s.Due, s.Target = notified, due, sooner(notified.Add(c.Targets.Final), due)
		s.stand(c, now)
	}
	if !c.ClosedAt.IsZero() && c.ClosedAt.After(due) {
		after.From, after.Due = c.ClosedAt, nextMonth(c.ClosedAt, c.Zone)
		after.Target = sooner(c.ClosedAt.Add(c.Targets.Final), after.Due)
	}
	after.stand(c, now)
	c.settle(now, &final, &progress, &after)
	return []Stage{final, progress, after}
}

// settle decides which of the reports at the end are owed. What counts is whether the
// incident still runs at the date of the final report (§ 32(2) BSIG).
func (c Case) settle(now time.Time, final, progress, after *Stage) {
	due := final.Due
	sent, ok := c.Submitted[Final]
	switch {
	case ok && !sent.After(due):
		progress.become(NotRequired, "the final report was submitted in time")
		after.become(NotRequired, "the final report was submitted in time")
	case !c.ClosedAt.IsZero() && !c.ClosedAt.After(due):
		progress.become(NotRequired, "the incident was closed before "+c.local(due))
		after.become(NotRequired, "the incident was closed before "+c.local(due))
	case !c.ClosedAt.IsZero() || now.After(due) || !c.Submitted[FinalAfterProgress].IsZero():
		final.become(Superseded, "the incident still ran at "+c.local(due)+": the progress report takes its place")
		after.waits("its month runs from the end of handling the incident")
	case progress.State == Submitted:
		// Nobody can write the final report yet. If the incident ends before its date,
		// it is owed at that date after all.
		final.become(Superseded, "the progress report takes its place, unless the incident is closed before "+c.local(due))
		after.waits("its month runs from the end of handling the incident")
	default:
		// It is open which of the two it will be, so both run.
		final.note("or the progress report, if the incident still runs at its date")
		progress.note("in place of the final report, if the incident still runs at its date")
		after.waits("only if the incident still runs at " + c.local(due))
	}
}

func (c Case) gdpr(now time.Time) Stage {
	s := c.stage(GDPR33)
	if !c.BreachAwareAt.IsZero() {
		s.From, s.Due = c.BreachAwareAt, c.BreachAwareAt.Add(gdprLimit)
	}
	s.stand(c, now)
	if s.State == NotDue {
		s.State, s.Reason = NotRequired, "nobody is aware of a breach of personal data"
	}
	return s
}

func (c Case) stage(name StageName) Stage { return Stage{Name: name, Law: c.law(name)} }

// fromAwareness counts hours. The earliest time of awareness counts.
func (c Case) fromAwareness(name StageName, limit, target time.Duration) Stage {
	aware := c.awareTimes()
	s := c.stage(name)
	s.From, s.Due = aware[0], aware[0].Add(limit)
	s.Target = sooner(aware[0].Add(target), s.Due)
	if len(aware) > 1 {
		s.Later = &Countdown{aware[1], aware[1].Add(limit)}
	}
	if !c.AwareUnconfirmedAt.IsZero() {
		s.note("the time of awareness is not confirmed: the earliest counts")
	}
	return s
}

// stand finds how a report stands from its own times alone.
func (s *Stage) stand(c Case, now time.Time) {
	if at, ok := c.Submitted[s.Name]; ok {
		s.State, s.SubmittedAt = Submitted, at
		if !s.Due.IsZero() {
			s.SubmittedLateBy = max(0, at.Sub(s.Due))
		}
		return
	}
	if why, ok := c.NotRequired[s.Name]; ok {
		s.State, s.Reason = NotRequired, why
		return
	}
	left := s.Due.Sub(now)
	switch {
	case s.Due.IsZero():
		s.State = NotDue
	case left < 0:
		s.State = Overdue
	case left*4 <= s.Due.Sub(s.From):
		s.State = Warn
	default:
		s.State = Running
	}
}

// become puts a report aside, unless somebody has handed it in or put it aside.
func (s *Stage) become(to State, why string) {
	if s.State != Submitted && s.State != NotRequired {
		s.State, s.Reason = to, why
	}
}

// waits says what starts the clock of a report that is not due.
func (s *Stage) waits(why string) {
	if s.State == NotDue {
		s.Reason = why
	}
}

func (s *Stage) note(text string) {
	if s.Note != "" {
		s.Note += "; "
	}
	s.Note += text
}

// law quotes what a report is owed by.
func (c Case) law(name StageName) string {
	national := map[StageName]string{
		EarlyWarning: "§ 32(1) Nr. 1 BSIG", Notification: "§ 32(1) Nr. 2 BSIG", Intermediate: "§ 32(1) Nr. 3 BSIG", Final: "§ 32(1) Nr. 4 BSIG",
		Progress: "§ 32(2) BSIG", FinalAfterProgress: "§ 32(2) BSIG",
	}
	european := map[StageName]string{
		EarlyWarning: "Art. 23(4)(a) NIS 2", Notification: "Art. 23(4)(b) NIS 2", Intermediate: "Art. 23(4)(c) NIS 2", Final: "Art. 23(4)(d) NIS 2",
		Progress: "Art. 23(4)(e) NIS 2", FinalAfterProgress: "Art. 23(4)(e) NIS 2",
	}
	switch {
	case name == GDPR33:
		return "Art. 33(1) GDPR"
	case c.Regime == CIR2690:
		return european[name]
	}
	return national[name]
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
