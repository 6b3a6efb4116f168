// Package wording fills sentences that are kept by their name and arguments, so that
// each reader has them in their own language. Policies explain their decisions on a
// mail by it, and health says what a state means for mail.
package wording

import (
	"fmt"
	"strings"
)

// Fill puts arguments into a format, a verb for each. An argument is a kind, a colon
// and a value, which word names in the reader's language; without a kind it is shown
// as it is. It is not ok where the arguments are not those of the format: then they
// are of another version.
func Fill(format string, args []string, word func(kind, value string) string) (text string, ok bool) {
	if len(args) == 0 {
		return format, !strings.Contains(format, "%s")
	}
	shown := make([]any, len(args))
	for i, a := range args {
		kind, value, _ := strings.Cut(a, ":")
		if shown[i] = value; kind != "" {
			shown[i] = word(kind, value)
		}
	}
	text = fmt.Sprintf(format, shown...)
	if strings.Contains(text, "%!") && !strings.Contains(strings.Join(args, ""), "%!") {
		return "", false
	}
	return text, true
}
