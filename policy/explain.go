package policy

import (
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Line is one sentence of an explanation, and what it rests on.
type Line struct {
	Text     string    `json:"text" doc:"in English"`
	ID       string    `json:"id,omitempty" doc:"the name of the sentence; with args it can be said in another language"`
	Args     []string  `json:"args,omitempty" doc:"kind:value each"`
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

// because adds the sentence that is the reason for the action.
func (d *RecipientDecision) because(l Line) {
	d.Why = l.Text
	d.explain(l)
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
	if n > 1 {
		return say(Origin{}, "found.more", plainArg(first.Engine), plainArg(first.Name), plainArg(strconv.Itoa(n-1)), classArg(c)), true
	}
	return say(Origin{}, "found", plainArg(first.Engine), plainArg(first.Name), classArg(c)), true
}
