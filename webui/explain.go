package webui

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/language"

	"mailward/policy"
)

// decided is a decision and the recipients for whom it is the same.
type decided struct {
	Addresses []string
	More      int // recipients that are not named
	Decision  policy.RecipientDecision
}

// Bounds of what a page shows of the recipients of one mail.
const (
	namedAddresses  = 5
	namedAgreements = 20
)

// alike puts recipients together for whom the same was decided for the same
// reasons: a mail to a list would repeat it for each.
func alike(list []policy.RecipientDecision) (out []decided) {
	for _, d := range list {
		i := slices.IndexFunc(out, func(g decided) bool {
			return g.Decision.Action == d.Action && g.Decision.Class == d.Class && g.Decision.Why == d.Why && slices.EqualFunc(g.Decision.Explain, d.Explain, sameLine)
		})
		switch {
		case i < 0 && len(out) == namedAgreements:
			return out
		case i < 0:
			out = append(out, decided{Addresses: []string{d.Address}, Decision: d})
		case len(out[i].Addresses) == namedAddresses:
			out[i].More++
		default:
			out[i].Addresses = append(out[i].Addresses, d.Address)
		}
	}
	return out
}

// sameLine says whether two sentences say the same and rest on the same.
func sameLine(a, b policy.Line) bool {
	return a.Text == b.Text && a.PolicyID == b.PolicyID && a.EntryID == b.EntryID && a.Version == b.Version
}

// lastWord is the reason for an action, of a decision whose sentences may be kept
// short.
func (l lang) lastWord(d policy.RecipientDecision) string {
	if n := len(d.Explain); n > 0 {
		return l.sentence(d.Explain[n-1])
	}
	return d.Why
}

// sentence is one of an explanation in the language of the page.
func (l lang) sentence(line policy.Line) string {
	return line.In(l.Code(), func(kind, value string) string {
		switch kind {
		case "origin":
			layer, name, _ := strings.Cut(value, ":")
			return l.T("explain.origin."+layer, name)
		case "classes":
			names := strings.Split(value, ", ")
			for i, n := range names {
				names[i] = l.className(n)
			}
			return strings.Join(names, ", ")
		case "class":
			return l.className(value)
		case "number":
			if f, err := strconv.ParseFloat(value, 64); err == nil {
				_, decimals, _ := strings.Cut(value, ".")
				return l.Float(f, len(decimals))
			}
		case "action":
			return l.word("explain.action", value)
		case "entry":
			return l.word("explain.entry", value)
		case "match":
			return l.word("explain.match", value)
		}
		return value
	})
}

// className is a class within a sentence: German writes it with a capital letter.
func (l lang) className(c string) string {
	if l.tag == language.English {
		return c
	}
	return l.word("class", c)
}

// orNone is a result, or that there is none.
func orNone(p *frame, result string) string {
	if result == "" {
		return p.T("pol.none")
	}
	return plain(result, 20)
}
