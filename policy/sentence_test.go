package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSentences: both languages of each sentence use every argument.
func TestSentences(t *testing.T) {
	t.Parallel()
	verb := regexp.MustCompile(`%(?:\[(\d)\])?s`)
	used := func(format string) []int {
		var list []int
		next := 1
		for _, m := range verb.FindAllStringSubmatch(format, -1) {
			if m[1] != "" {
				next = int(m[1][0] - '0')
			}
			list = append(list, next)
			next++
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	for id, s := range sentences {
		en, de := used(s.en), used(s.de)
		if !slices.Equal(en, de) || len(en) > 0 && en[len(en)-1] != len(en) {
			t.Errorf("%s: arguments %v in English, %v in German", id, en, de)
		}
		if strings.Count(s.en, "%") != len(verb.FindAllString(s.en, -1)) || strings.Count(s.de, "%") != len(verb.FindAllString(s.de, -1)) {
			t.Errorf("%s has another verb than %%s", id)
		}
	}
}

// TestLine_In_OldRecords: a line whose sentence or arguments are not known here
// is read as it was written.
func TestLine_In_OldRecords(t *testing.T) {
	t.Parallel()
	for _, l := range []Line{{Text: "as it was"}, {Text: "as it was", ID: "gone", Args: []string{":x"}}, {Text: "as it was", ID: "action", Args: []string{":x"}}, {Text: "as it was", ID: "sandbox.clean", Args: []string{":x"}}} {
		if got := l.In("de", func(kind, value string) string { return fmt.Sprint(kind, value) }); got != "as it was" {
			t.Errorf("%+v: %s", l, got)
		}
	}
}
