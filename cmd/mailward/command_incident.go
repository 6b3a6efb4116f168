package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"mailward/incident"
)

type incidentCmd struct {
	Deadlines incidentDeadlinesCmd `cmd:"" help:"Calculate when each report of NIS-2, the BSIG and the GDPR is due. Nothing is kept and nothing is sent. Exit code 0: nothing is overdue, 1: a report is overdue, 2: it could not be calculated."`
}

type incidentDeadlinesCmd struct {
	Aware            string            `help:"When a person knew that the incident is significant, or may be: 2026-10-24T09:30:00+02:00, or \"2026-10-24 09:30\" in the zone, as all times here." placeholder:"TIME"`
	AwareUnconfirmed string            `help:"Another time of that, or the only one, that nobody has confirmed. The earliest counts." placeholder:"TIME"`
	Detected         string            `help:"First signal. No deadline runs from it; it is compared." placeholder:"TIME"`
	Notified         string            `help:"When the notification was submitted: the month of the final report runs from here." placeholder:"TIME"`
	Submitted        map[string]string `help:"Another report that was submitted (${stages}). May be given several times." placeholder:"REPORT=TIME" mapsep:"none"`
	NotRequired      map[string]string `help:"A report that is not owed, and why. May be given several times." placeholder:"REPORT=REASON" mapsep:"none"`
	Requested        string            `help:"Date that the authority set for an intermediate report." placeholder:"TIME"`
	Closed           string            `help:"When handling the incident was completed." placeholder:"TIME"`
	BreachAware      string            `help:"When a breach of personal data became known (Art. 33 GDPR)." placeholder:"TIME"`

	Regime       string `default:"bsig" help:"bsig, cir2690 (providers of Regulation 2024/2690) or kritis. Default: ${default}." placeholder:"NAME"`
	TrustService bool   `help:"Trust services are affected: 24 hours for the notification."`
	Zone         string `default:"${zone}" help:"Where times are read and shown, and months counted. Default: ${default}."`
	At           string `help:"How it stands at this time. Default: now." placeholder:"TIME"`

	TargetEarlyWarning time.Duration `default:"${target_early_warning}" help:"Own target, from awareness. Default: ${default}." placeholder:"DURATION"`
	TargetNotification time.Duration `default:"${target_notification}" help:"Own target, from awareness. Default: ${default}." placeholder:"DURATION"`
	TargetFinal        time.Duration `default:"${target_final}" help:"Own target, from the notification. Default: ${default} (21 days)." placeholder:"DURATION"`

	JSON bool `name:"json" help:"Print JSON."`
}

// incidentVars are what the flags say that the package knows.
func incidentVars() kong.Vars {
	t := incident.DefaultTargets()
	return kong.Vars{"zone": incident.DefaultZone, "stages": incident.StageList(),
		"target_early_warning": t.EarlyWarning.String(), "target_notification": t.Notification.String(), "target_final": t.Final.String()}
}

// Exit codes of incident deadlines; codeNoCheck is the third.
const codeOverdue = 1

// deadlines is what is printed.
type deadlines struct {
	Now              time.Time       `json:"now"`
	Regime           incident.Regime `json:"regime"`
	TrustService     bool            `json:"trust_service"`
	Zone             string          `json:"zone"`
	DetectedAt       time.Time       `json:"detected_at,omitzero"`
	AwareAt          time.Time       `json:"aware_at,omitzero"`
	AwareUnconfirmed time.Time       `json:"aware_unconfirmed_at,omitzero"`
	Stages           []deadline      `json:"stages"`
}

// deadline is a stage with what depends on the moment. Times are in the zone, with
// their offset.
type deadline struct {
	incident.Stage
	// LeftSeconds is below zero when the report is overdue; only open ones have it.
	LeftSeconds     *int64 `json:"left_seconds,omitempty"`
	LateSeconds     int64  `json:"submitted_late_by_seconds,omitempty"`
	TargetPassed    bool   `json:"target_passed"`
	left, laterLeft time.Duration
}

// Run calculates. It needs no configuration, no database and no network.
func (cmd *incidentDeadlinesCmd) Run(e *env) error {
	c, now, err := cmd.parse(time.Now())
	if err != nil {
		return exitCode{codeNoCheck, err}
	}
	stages, err := c.Stages(now)
	if err != nil {
		return exitCode{codeNoCheck, err}
	}
	in := func(t time.Time) time.Time {
		if t.IsZero() {
			return t
		}
		return t.In(c.Zone)
	}
	d := deadlines{Now: in(now), Regime: c.Regime, TrustService: c.TrustService, Zone: c.Zone.String(), DetectedAt: in(c.DetectedAt), AwareAt: in(c.AwareAt), AwareUnconfirmed: in(c.AwareUnconfirmedAt)}
	code := 0
	for _, s := range stages {
		s.From, s.Due, s.Target, s.SubmittedAt = in(s.From), in(s.Due), in(s.Target), in(s.SubmittedAt)
		line := deadline{Stage: s, left: s.Due.Sub(now), LateSeconds: int64(s.SubmittedLateBy / time.Second), TargetPassed: s.Open() && !s.Target.IsZero() && now.After(s.Target)}
		if s.Open() {
			seconds := int64(line.left / time.Second)
			line.LeftSeconds = &seconds
		}
		if s.Later != nil {
			line.Later = &incident.Countdown{From: in(s.Later.From), Due: in(s.Later.Due)}
			line.laterLeft = s.Later.Due.Sub(now)
		}
		if s.State == incident.Overdue {
			code = codeOverdue
		}
		d.Stages = append(d.Stages, line)
	}
	if err := cmd.print(e.out, d); err != nil {
		return exitCode{codeNoCheck, err}
	}
	if code != 0 {
		return exitCode{code, nil}
	}
	return nil
}

// parse makes a case of the flags. All mistakes are told at once.
func (cmd *incidentDeadlinesCmd) parse(now time.Time) (incident.Case, time.Time, error) {
	none := incident.Case{}
	zone, err := time.LoadLocation(cmd.Zone)
	if err != nil || cmd.Zone == "" || cmd.Zone == "Local" {
		return none, now, fmt.Errorf("--zone %q is no time zone: write one like Europe/Berlin, or UTC", cmd.Zone)
	}
	var mistakes incident.Mistakes
	read := func(flag, value string) time.Time {
		if value == "" {
			return time.Time{}
		}
		t, err := incident.ParseTime(value, zone)
		if err != nil {
			mistakes = append(mistakes, flag+": "+err.Error())
		}
		return t
	}
	c := incident.Case{
		TrustService: cmd.TrustService, Zone: zone,
		Targets:    incident.Targets{EarlyWarning: cmd.TargetEarlyWarning, Notification: cmd.TargetNotification, Final: cmd.TargetFinal},
		DetectedAt: read("--detected", cmd.Detected), AwareAt: read("--aware", cmd.Aware), AwareUnconfirmedAt: read("--aware-unconfirmed", cmd.AwareUnconfirmed),
		RequestedFor: read("--requested", cmd.Requested), ClosedAt: read("--closed", cmd.Closed), BreachAwareAt: read("--breach-aware", cmd.BreachAware),
		Submitted: map[incident.StageName]time.Time{}, NotRequired: map[incident.StageName]string{},
	}
	if c.Regime, err = incident.ParseRegime(cmd.Regime); err != nil {
		mistakes = append(mistakes, "--regime: "+err.Error())
	}
	if cmd.At != "" {
		now = read("--at", cmd.At)
	}
	if cmd.Aware == "" && cmd.AwareUnconfirmed == "" {
		mistakes = append(mistakes, "give --aware, the moment when a person knew that the incident is significant or may be, or --aware-unconfirmed")
	}
	for _, name := range slices.Sorted(maps.Keys(cmd.Submitted)) {
		value := cmd.Submitted[name]
		t := read("--submitted "+name, value)
		if value == "" {
			mistakes = append(mistakes, "--submitted "+name+": give the time, as in "+name+`="2026-10-24 09:30"`)
		}
		c.Submitted[incident.StageName(name)] = t
	}
	if cmd.Notified != "" {
		if _, twice := c.Submitted[incident.Notification]; twice {
			mistakes = append(mistakes, "--notified and --submitted notification are the same: give one of them")
		}
		c.Submitted[incident.Notification] = read("--notified", cmd.Notified)
	}
	for name, why := range cmd.NotRequired {
		c.NotRequired[incident.StageName(name)] = why
	}
	if len(mistakes) > 0 {
		return none, now, mistakes
	}
	return c, now, nil
}

func (cmd *incidentDeadlinesCmd) print(w io.Writer, d deadlines) error {
	if cmd.JSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(d)
	}
	fmt.Fprintf(w, "Deadlines under %s at %s, times in %s.\n", d.Regime, stamp(d.Now), d.Zone)
	first := d.AwareAt
	if first.IsZero() || !d.AwareUnconfirmed.IsZero() && d.AwareUnconfirmed.Before(first) {
		first = d.AwareUnconfirmed
	}
	if !d.DetectedAt.IsZero() {
		fmt.Fprintf(w, "Aware %s, %s after the first signal.\n", stamp(first), lasting(first.Sub(d.DetectedAt)))
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "REPORT\tLAW\tDUE\tUTC\tTARGET\tTIME\tSTATE")
	for _, s := range d.Stages {
		s.row(t)
	}
	err := t.Flush()
	for _, s := range d.Stages {
		if s.Reason != "" {
			fmt.Fprintf(w, "\n%s: %s.", s.Name, s.Reason)
		}
		if s.Note != "" {
			fmt.Fprintf(w, "\n%s: %s.", s.Name, s.Note)
		}
	}
	_, last := fmt.Fprint(w, "\n\nDue is the legal maximum; the duty is to report without undue delay. Nights, weekends and holidays move nothing.\nThis is a calculation: nothing is kept, and nothing is sent.\n")
	return errors.Join(err, last)
}

// row prints a line, and one more for a second countdown.
func (s deadline) row(w io.Writer) {
	due, utc, target, left := "-", "-", "-", "-"
	if !s.Due.IsZero() && s.State != incident.NotRequired {
		due, utc = stamp(s.Due), s.Due.UTC().Format("2006-01-02 15:04Z")
	}
	if s.Open() {
		left = remaining(s.left)
		if !s.Target.IsZero() {
			target = stamp(s.Target)
		}
		if s.TargetPassed {
			target += " (passed)"
		}
	}
	state := string(s.State)
	if s.State == incident.Submitted {
		state += " " + stamp(s.SubmittedAt)
		if s.SubmittedLateBy > 0 {
			left, state = lasting(s.SubmittedLateBy)+" late", state+", OVERDUE then"
		}
	}
	if s.State == incident.Overdue {
		state = "OVERDUE"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Law, due, utc, target, left, state)
	if s.Later != nil && s.Open() {
		fmt.Fprintf(w, "\tif aware %s\t%s\t%s\t\t%s\tdoes not count yet\n", stamp(s.Later.From), stamp(s.Later.Due), s.Later.Due.UTC().Format("2006-01-02 15:04Z"), remaining(s.laterLeft))
	}
}

// stamp writes a time to the minute, cut: never later than it is.
func stamp(t time.Time) string { return t.Format("2006-01-02 15:04 MST") }

func remaining(d time.Duration) string {
	if d < 0 {
		return lasting(-d) + " late"
	}
	return lasting(d) + " left"
}

// lasting writes a length as 2d 3h 4m, cut to the minute.
func lasting(d time.Duration) string {
	if d < time.Minute {
		return "under 1m"
	}
	var b strings.Builder
	if days := d / (24 * time.Hour); days > 0 {
		fmt.Fprintf(&b, "%dd ", days)
	}
	if d >= time.Hour {
		fmt.Fprintf(&b, "%dh ", d/time.Hour%24)
	}
	fmt.Fprintf(&b, "%dm", d/time.Minute%60)
	return b.String()
}
