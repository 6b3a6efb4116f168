package policy

import (
	"regexp"
	"strings"
)

// localPart is all of a mail address up to its domain.
var localPart = regexp.MustCompile(`[^\s"'<>(),:;]+@`)

// ForRecord is reasons as the record may have them. A finding's sentence can quote the
// mail: an address, a name, a link. What is on record cannot be erased, so there a
// finding has its name alone; the sentence stands with the mail, and goes with it.
func ForRecord(reasons []string, findings []Finding) string {
	names := map[string]string{}
	for _, f := range findings {
		if _, known := names[f.Reason]; !known {
			names[f.Reason] = f.Engine + ": " + f.Name
		}
	}
	out := make([]string, 0, len(reasons))
	for _, r := range reasons {
		if name, ok := names[r]; ok {
			r = name
		}
		out = append(out, localPart.ReplaceAllString(r, "…@"))
	}
	return strings.Join(out, "; ")
}
