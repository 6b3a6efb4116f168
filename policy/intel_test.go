package policy

import (
	"strings"
	"testing"
)

func TestDecide_Intel(t *testing.T) {
	t.Parallel()
	hit := func(class, confidence string, score float64) Finding {
		return Finding{Engine: IntelEngine, Name: "INTEL_URL", Score: score, Reason: "listed", Meta: map[string]string{"class": class, "confidence": confidence, "source": "feed"}}
	}
	block := hit("spam", "100", 3)
	block.Meta["override"] = "x"
	for name, tt := range map[string]struct {
		found  Finding
		policy Policy
		want   Class
	}{
		"sure":                      {hit("malware", "75", 3.75), Policy{}, Malware},
		"not so sure":               {hit("phishing", "74", 3.7), Policy{}, Clean},
		"a policy that asks less":   {hit("phishing", "50", 2.5), Policy{Thresholds: Thresholds{Intel: 50}}, Phishing},
		"a policy that asks more":   {hit("malware", "90", 4.5), Policy{Thresholds: Thresholds{Intel: 95}}, Clean},
		"mild class":                {hit("spam", "100", 3), Policy{}, Clean},
		"signs of phishing add up":  {hit("phishing", "60", 6), Policy{}, Phishing},
		"suspicious is no phishing": {hit("suspicious", "100", 6), Policy{}, Spam},
		"override":                  {block, Policy{}, Spam},
		"no number":                 {hit("malware", "high", 1), Policy{}, Clean},
	} {
		d := Decide(Input{Report: Report{Engines: []EngineAnswer{{Engine: IntelEngine, Answered: true}}, Findings: []Finding{tt.found}},
			Recipients: []Recipient{{Address: "a@ours.example", Policy: tt.policy}}})
		if d.Class != tt.want {
			t.Errorf("%s: %s, want %s; %v", name, d.Class, tt.want, d.Reasons)
		}
		if got := d.Findings[0].Class; (got == Malware || got == Phishing) && got != tt.want {
			t.Errorf("%s: recorded as %s", name, got)
		}
		if tt.found.Meta["override"] == "" && tt.found.Meta["confidence"] != "high" && !strings.Contains(d.Recipients[0].Explain[0].Text, "confidence of "+tt.found.Meta["confidence"]) {
			t.Errorf("%s: %+v", name, d.Recipients[0].Explain)
		}
	}
}
