package policy

import "testing"

func TestForRecord_QuotesNothingOfTheMail(t *testing.T) {
	t.Parallel()
	findings := []Finding{
		{Engine: "clamav", Name: "Eicar", Reason: "ClamAV found Eicar"},
		{Engine: "phishing", Name: "OWN_PERSON", Reason: "it bears the name of one of ours: Erika Mustermann"},
		{Engine: "phishing", Name: "REPLY_TO_OTHER", Reason: "answers go elsewhere: erika@elsewhere.example"},
	}
	for _, c := range []struct {
		reasons []string
		want    string
	}{
		{[]string{findings[0].Reason, findings[1].Reason, findings[2].Reason}, "clamav: Eicar; phishing: OWN_PERSON; phishing: REPLY_TO_OTHER"},
		{[]string{"It is blocked by sender <erika@elsewhere.example>", "no verdict from the sandbox"}, "It is blocked by sender <…@elsewhere.example>; no verdict from the sandbox"},
		{nil, ""},
	} {
		if got := ForRecord(c.reasons, findings); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.reasons, got, c.want)
		}
	}
}
