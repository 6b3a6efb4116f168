package policy

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Line is one sentence of an explanation, and what it rests on.
type Line struct {
	Text     string    `json:"text"`
	Layer    string    `json:"layer,omitempty" doc:"built-in, workspace, domain or group; entry, for an allow or block entry"`
	PolicyID uuid.UUID `json:"policy_id,omitzero"`
	EntryID  uuid.UUID `json:"entry_id,omitzero"`
	Version  int64     `json:"version,omitempty"`
}

// Bounds of an explanation: it is kept for each recipient of a mail.
const (
	maxLines    = 12
	maxLineSize = 400
)

// lineOf is a sentence that rests on a line of a policy.
func lineOf(o Origin, format string, args ...any) Line {
	return Line{Text: cut(fmt.Sprintf(format, args...)), Layer: o.Layer, PolicyID: o.PolicyID, Version: o.Version}
}

// plainLine is a sentence that rests on no policy.
func plainLine(format string, args ...any) Line { return Line{Text: cut(fmt.Sprintf(format, args...))} }

// cut keeps a sentence within its bound, at the border of a character.
func cut(s string) string {
	if len(s) <= maxLineSize {
		return s
	}
	return strings.ToValidUTF8(s[:maxLineSize], "") + "…"
}

// explain adds a sentence to a decision.
func (d *RecipientDecision) explain(lines ...Line) {
	for _, l := range lines {
		if len(d.Explain) < maxLines {
			d.Explain = append(d.Explain, l)
		}
	}
}

// foundLine says which finding made the class.
func foundLine(findings []Finding, c Class) (Line, bool) {
	var first *Finding
	n := 0
	for i, f := range findings {
		if f.Class == c && c != Clean {
			if n++; first == nil {
				first = &findings[i]
			}
		}
	}
	if first == nil {
		return Line{}, false
	}
	more := ""
	if n > 1 {
		more = fmt.Sprintf(" and %d more", n-1)
	}
	return plainLine("%s found %s%s, which makes it %s", first.Engine, first.Name, more, c), true
}
