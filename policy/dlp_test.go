package policy

import "testing"

// TestDecide_DLPSets: a policy names the sets that count for its recipients.
func TestDecide_DLPSets(t *testing.T) {
	t.Parallel()
	up := []EngineAnswer{{Engine: DLPEngine, Answered: true}}
	cards := []Finding{{Engine: DLPEngine, Name: "DLP.PaymentCards", Class: DLP, Meta: map[string]string{"set": "019ab000-0000-7000-8000-000000000701"}}}
	for _, tt := range []struct {
		name string
		sets []string
		want Action
	}{
		{"all sets", nil, Quarantine},
		{"none", []string{}, Deliver},
		{"by its symbol", []string{"BankAccounts", "paymentcards"}, Quarantine},
		{"by its symbol as findings show it", []string{"DLP.PaymentCards"}, Quarantine},
		{"by its id", []string{"019ab000-0000-7000-8000-000000000701"}, Quarantine},
		{"another", []string{"BankAccounts"}, Deliver},
	} {
		r := Recipient{Address: "a@x.example", Direction: Outbound, Policy: Policy{DLPSets: tt.sets}}
		d := Decide(Input{Report: Report{Engines: up, Findings: cards}, Recipients: []Recipient{r}})
		if d.Action != tt.want || len(d.Findings) != 1 {
			t.Errorf("%s: %s with %d findings, want %s", tt.name, d.Action, len(d.Findings), tt.want)
		}
	}
}
