package webui

import (
	"slices"

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
			return g.Decision.Action == d.Action && g.Decision.Class == d.Class && g.Decision.Why == d.Why && slices.Equal(g.Decision.Explain, d.Explain)
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

// orNone is a result, or that there is none.
func orNone(p *frame, result string) string {
	if result == "" {
		return p.T("pol.none")
	}
	return plain(result, 20)
}
