package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// squeeze makes one space of many, so that a line of a table can be compared.
func squeeze(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

func TestIncidentDeadlines(t *testing.T) {
	t.Parallel()
	aware := []string{"incident", "deadlines", "--aware", "2026-10-24 09:30"}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"over the change of the clocks", []string{"--at", "2026-10-25 05:00", "--detected", "2026-10-24 08:00"}, 0, []string{
			"Deadlines under bsig at 2026-10-25 05:00 CET, times in Europe/Berlin.",
			"Aware 2026-10-24 09:30 CEST, 1h 30m after the first signal.",
			"early_warning § 32(1) Nr. 1 BSIG 2026-10-25 08:30 CET 2026-10-25 07:30Z 2026-10-24 17:30 CEST (passed) 3h 30m left warn",
			"notification § 32(1) Nr. 2 BSIG 2026-10-27 08:30 CET 2026-10-27 07:30Z 2026-10-26 08:30 CET 2d 3h 30m left running",
			"final § 32(1) Nr. 4 BSIG - - - - not_due",
			"intermediate: the authority has not asked for one.",
			"nothing is kept, and nothing is sent",
		}},
		{"overdue", []string{"--at", "2026-10-25 09:31"}, 1, []string{"1h 1m late OVERDUE"}},
		{"late stays visible, and is nothing to do any more", []string{"--at", "2026-10-26 09:00", "--submitted", "early_warning=2026-10-25 10:00"}, 0, []string{
			"1h 30m late submitted 2026-10-25 10:00 CET, OVERDUE then",
		}},
		{"the end of a case", []string{"--at", "2026-12-20T08:00:00+01:00", "--notified", "2026-10-26 08:00", "--submitted", "early_warning=2026-10-24 10:00", "--submitted", "progress=2026-11-25T08:00:00Z", "--closed", "2026-12-01 08:00"}, 0, []string{
			"notification § 32(1) Nr. 2 BSIG 2026-10-27 08:30 CET 2026-10-27 07:30Z - - submitted 2026-10-26 08:00 CET",
			"final § 32(1) Nr. 4 BSIG 2026-11-26 08:00 CET 2026-11-26 07:00Z - - superseded",
			"final_after_progress § 32(2) BSIG 2027-01-01 08:00 CET 2027-01-01 07:00Z 2026-12-22 08:00 CET 12d 0h 0m left running",
		}},
		{"trust services of a listed provider, in UTC", []string{"--at", "2026-10-24 10:00", "--zone", "UTC", "--regime", "cir2690", "--trust-service"}, 0, []string{
			"early_warning Art. 23(4)(a) NIS 2 2026-10-25 09:30 UTC", "notification Art. 23(4) NIS 2 (trust services) 2026-10-25 09:30 UTC 2026-10-25 09:30Z 2026-10-24 17:30 UTC 23h 30m left running",
		}},
		{"two times of awareness", []string{"--at", "2026-10-24 13:00", "--aware-unconfirmed", "2026-10-24 08:30"}, 0, []string{
			"early_warning § 32(1) Nr. 1 BSIG 2026-10-25 07:30 CET 2026-10-25 06:30Z", "if aware 2026-10-24 09:30 CEST 2026-10-25 08:30 CET 2026-10-25 07:30Z 20h 30m left does not count yet",
		}},
		{"what else is owed, and what is not", []string{"--at", "2026-10-24 13:00", "--breach-aware", "2026-10-24 12:00", "--requested", "2026-11-02 12:00", "--regime", "kritis", "--not-required", "final=told by phone; a=b, c"}, 0, []string{
			"gdpr33 Art. 33(1) GDPR 2026-10-27 11:00 CET", "intermediate § 32(1) Nr. 3 BSIG 2026-11-02 12:00 CET", "final: told by phone; a=b, c.", "§ 32(3) BSIG: also the kind of plant",
		}},
		{"targets", []string{"--at", "2026-10-24 10:00", "--target-early-warning", "4h"}, 0, []string{"2026-10-24 13:30 CEST 23h 30m left"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := command(t, "", append(aware[:4:4], tt.args...)...)
			if code != tt.code || errs != "" {
				t.Errorf("code %d, want %d: %q", code, tt.code, errs)
			}
			for _, want := range tt.want {
				if !strings.Contains(squeeze(out), want) {
					t.Errorf("lacks %q:\n%s", want, out)
				}
			}
		})
	}
}

func TestIncidentDeadlines_Now(t *testing.T) {
	t.Parallel()
	hour := time.Now().Add(-time.Hour).Format(time.RFC3339)
	if code, out, errs := command(t, "", "incident", "deadlines", "--aware", hour); code != 0 || !strings.Contains(out, "22h 59m left") || errs != "" {
		t.Errorf("%d %q\n%s", code, errs, out)
	}
}

func TestIncidentDeadlines_JSON(t *testing.T) {
	t.Parallel()
	code, out, errs := command(t, "", "incident", "deadlines", "--json", "--aware", "2026-10-24 09:30", "--notified", "2026-10-28 08:30", "--at", "2026-10-28 09:00")
	var got struct {
		Zone    string
		AwareAt string `json:"aware_at"`
		Stages  []struct {
			Stage, Law, Due, State, Reason string
			Left                           *int64 `json:"left_seconds"`
			Late                           int64  `json:"submitted_late_by_seconds"`
			Passed                         bool   `json:"target_passed"`
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || errs != "" || len(got.Stages) != 7 {
		t.Fatalf("%d %q %v:\n%s", code, errs, err, out)
	}
	early, notification, final, gdpr := got.Stages[0], got.Stages[1], got.Stages[3], got.Stages[6]
	switch {
	case got.Zone != "Europe/Berlin" || got.AwareAt != "2026-10-24T09:30:00+02:00",
		early.State != "overdue" || early.Due != "2026-10-25T08:30:00+01:00" || early.Left == nil || *early.Left != -72.5*3600 || !early.Passed,
		notification.State != "submitted" || notification.Late != 24*3600 || notification.Left != nil,
		final.State != "running" || final.Due != "2026-11-28T08:30:00+01:00" || final.Law != "§ 32(1) Nr. 4 BSIG",
		gdpr.State != "not_required" || gdpr.Due != "" || gdpr.Reason == "":
		t.Errorf("%+v\n%s", got, out)
	}
}

func TestIncidentDeadlines_MistakesSayWhatToDo(t *testing.T) {
	t.Parallel()
	const now = "2026-12-20 08:00"
	for want, args := range map[string][]string{
		"give --aware, the moment":        {},
		"--aware: \"yesterday\" is no":    {"--aware", "yesterday"},
		"2026-10-25T02:30:00+02:00 or":    {"--aware", "2026-10-25 02:30"},
		"never showed 2026-03-29 02:30":   {"--aware", "2026-03-29 02:30"},
		"lies in the future":              {"--aware", "2026-12-20 08:01"},
		"before becoming aware":           {"--aware", "2026-12-19 08:00", "--notified", "2026-12-19 07:59"},
		"--zone \"Mars/Phobos\"":          {"--aware", "2026-12-19 08:00", "--zone", "Mars/Phobos"},
		"--zone \"Local\"":                {"--aware", "2026-12-19 08:00", "--zone", "Local"},
		"exempt from § 32 BSIG":           {"--aware", "2026-12-19 08:00", "--regime", "dora"},
		"give one of them":                {"--aware", "2026-12-19 08:00", "--notified", "2026-12-19 09:00", "--submitted", "notification=2026-12-19 09:00"},
		"\"finale\" is no report":         {"--aware", "2026-12-19 08:00", "--submitted", "finale=2026-12-19 09:00"},
		"--submitted final: give the":     {"--aware", "2026-12-19 08:00", "--submitted", "final="},
		"final is said not to be":         {"--aware", "2026-12-19 08:00", "--not-required", "final="},
		"; --notified: \"b\" is no time":  {"--aware", "a", "--notified", "b"},
		"internal targets must be longer": {"--aware", "2026-12-19 08:00", "--target-final", "0s"},
		"see mailward --help":             {"--aware", "2026-12-19 08:00", "--target-final", "21 days"},
	} {
		code, out, errs := command(t, "", append([]string{"incident", "deadlines", "--at", now}, args...)...)
		if code != 2 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
			t.Errorf("%v: code %d, %q, %q; want %q", args, code, out, errs, want)
		}
	}
}
