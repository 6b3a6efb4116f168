package incident

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFacts_Check(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ field, in, want, wrong string }{
		{"incidentSummary", "  kept  ", "kept", ""},
		{"incidentSummary", strings.Repeat("x", maxText+1), "", "at most"},
		{"incidentSummary", "a\x00b", "", "must be text"},
		{"reporterName", strings.Repeat("x", maxLine+1), "", "at most"},
		{"rootCauseType", "phishing", "phishing", ""},
		{"rootCauseType", "bad luck", "", "must be one of malware"},
		{"ciaImpact", "availability  confidentiality availability", "confidentiality availability", ""},
		{"ciaImpact", "availability, integrity", "", "must be some of"},
		{"affectedUsersCount", "12", "12", ""},
		{"affectedUsersCount", "-1", "", "whole number"},
		{"affectedUsersCount", "012", "", "whole number"},
		{"affectedUsersCount", "99999999999999999999", "", "whole number"},
		{"estimatedFinancialDamage", "1200.50", "1200.50", ""},
		{"estimatedFinancialDamage", "1200,50", "", "amount in EUR"},
		{"estimatedFinancialDamage", "1.234", "", "amount in EUR"},
		{"estimatedFinancialDamage", "5.", "", "amount in EUR"},
		{"incidentOccurredAt", "2026-10-24T09:30:00+02:00", "2026-10-24T09:30:00+02:00", ""},
		{"incidentOccurredAt", "yesterday", "", "must be a time"},
		{"internalCaseReference", "mine", "", "no field that can be written"},
		{"made up", "x", "", "no field that can be written"},
	} {
		got, err := Facts{c.field: c.in}.check()
		if c.wrong == "" && (err != nil || got[c.field] != c.want) || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s %.40q: %q, %v", c.field, c.in, got[c.field], err)
		}
	}
	if got, err := (Facts{"reporterName": "  "}).check(); err != nil || len(got) != 0 {
		t.Errorf("nothing is kept as something: %v %v", got, err)
	}
}

// TestFields compares the table with what COMPLIANCE asks of each report: a slip in a
// pattern would have a report look complete that is not.
func TestFields(t *testing.T) {
	t.Parallel()
	required := func(r Regime, s StageName) (names []string) {
		for _, f := range FieldsOf(r, s) {
			if f.Need(s) == Required {
				names = append(names, f.Name)
			}
		}
		return names
	}
	early := []string{"reporterName", "reporterEmail", "reportingReason", "incidentSummary", "suspectedUnlawfulOrMalicious", "incidentDetectedAt", "hasCrossBorderImpact"}
	if got := required(BSIG, EarlyWarning); !slices.Equal(got, early) {
		t.Errorf("early warning: %v", got)
	}
	if got := required(KRITIS, EarlyWarning); !slices.Equal(got, append(early, "criticalPlant")) {
		t.Errorf("early warning of a critical plant: %v", got)
	}
	if n := len(required(BSIG, Notification)); n != 16 {
		t.Errorf("notification: %d", n)
	}
	if len(required(BSIG, Progress)) != 0 || len(required(BSIG, Intermediate)) != 0 || !slices.Equal(required(BSIG, Final), required(BSIG, FinalAfterProgress)) || len(required(BSIG, Final)) != 23 {
		t.Errorf("progress %v, intermediate %v, final %d", required(BSIG, Progress), required(BSIG, Intermediate), len(required(BSIG, Final)))
	}
	if got := required(CIR2690, GDPR33); !slices.Equal(got, []string{"reporterName", "reporterEmail", "incidentSummary", "containmentMeasuresTaken", "breachNature", "breachAwareAt", "dataCategories", "personsAffected", "recordsAffected", "likelyConsequences"}) {
		t.Errorf("GDPR: %v", got)
	}
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.Name] || (f.Kind == Choice && !f.Derived() || f.Kind == Many) != (len(f.Values) > 0) {
			t.Errorf("%s is there twice, or its values are not", f.Name)
		}
		seen[f.Name] = true
	}
}

func TestIncident_Sheet(t *testing.T) {
	t.Parallel()
	aware := time.Date(2026, 10, 24, 7, 30, 0, 0, time.UTC)
	i := Incident{Number: "INC-2026-0001", Regime: BSIG, Severity: "high", Significant: Significant, AwareAt: aware, Version: 3,
		Facts: Facts{"affectedUsersCount": "12", "ciaImpact": "confidentiality availability", "incidentSummary": "Phishing"}}
	sheet := i.Sheet(Notification, aware.Add(time.Hour))
	content, sum, err := sheet.encode()
	if err != nil || len(sum) != 64 {
		t.Fatal(err, sum)
	}
	var back struct {
		Law    string
		Fields []struct {
			Name  string
			Need  string
			Value any
		}
		Missing []string
	}
	if err := json.Unmarshal(content, &back); err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, f := range back.Fields {
		got[f.Name] = f.Value
	}
	if got["affectedUsersCount"] != 12.0 || len(got["ciaImpact"].([]any)) != 2 || got["reportingReason"] != "significantIncident" || got["incidentDetectedAt"] != "2026-10-24T07:30:00Z" || got["reporterName"] != nil || got["internalCaseReference"] != "INC-2026-0001" {
		t.Errorf("%v", got)
	}
	if back.Law != "§ 32(1) Nr. 2 BSIG" || !slices.Contains(back.Missing, "reporterName") || slices.Contains(back.Missing, "incidentSummary") {
		t.Errorf("%s, missing %v", back.Law, back.Missing)
	}
}
