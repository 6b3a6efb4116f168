package wording

import (
	"strings"
	"testing"
)

func TestFill(t *testing.T) {
	t.Parallel()
	word := func(kind, value string) string { return strings.ToUpper(kind + " " + value) }
	for _, c := range []struct {
		format string
		args   []string
		want   string
		ok     bool
	}{
		{"nothing to say", nil, "nothing to say", true},
		{"%s says %s", []string{":a: b", "action:deliver"}, "a: b says ACTION DELIVER", true},
		{"%[2]s, then %[1]s", []string{":a", ":b"}, "b, then a", true},
		{"%s", []string{":100 %!"}, "100 %!", true}, // as a person has written it
		{"%s says %s", []string{":a"}, "", false},
		{"%s", []string{":a", ":b"}, "", false},
		{"%s says", nil, "%s says", false},
		{"no verb", []string{":a"}, "", false},
	} {
		if got, ok := Fill(c.format, c.args, word); got != c.want || ok != c.ok {
			t.Errorf("Fill(%q, %q) = %q, %v", c.format, c.args, got, ok)
		}
	}
}
