package mailauth

import (
	"strings"

	"github.com/emersion/go-msgauth/authres"
)

// maxSeen bounds what is read of one ARC-Authentication-Results.
const maxSeen = 8 << 10

// Seen is what one sealer wrote into its ARC-Authentication-Results. It is as
// good as the sealer: see [ARC.Trusted].
type Seen struct {
	Instance int    `json:"instance"`
	Sealer   string `json:"sealer"`
	AuthServ string `json:"authserv,omitempty"`
	SPF      string `json:"spf,omitempty"`
	DKIM     []DKIM `json:"dkim,omitempty"` // Result and Domain only
	DMARC    string `json:"dmarc,omitempty"`
	From     string `json:"from,omitempty"` // header.from of dmarc
}

// Trusted is what was seen of a mail where it came into the hands of those who
// are trusted: of the sealers from the newest back, without a gap, the oldest
// that trusted says yes to. False where the chain does not hold, or its newest
// sealer is a stranger: nothing older can be believed then, since a stranger can
// write a whole chain (RFC 8617 §9.3).
func (a ARC) Trusted(trusted func(domain string) bool) (Seen, bool) {
	if a.Result != Pass {
		return Seen{}, false
	}
	var out Seen
	found := false
	for i := len(a.Seen) - 1; i >= 0 && trusted(a.Seen[i].Sealer); i-- {
		out, found = a.Seen[i], true
	}
	return out, found
}

// seen reads the results that a sealer wrote; what cannot be read is not there.
func seen(instance int, sealer, results string) Seen {
	s := Seen{Instance: instance, Sealer: strings.ToLower(sealer)}
	if len(results) > maxSeen {
		return s
	}
	id, list, err := authres.Parse(results)
	if err != nil {
		return s
	}
	s.AuthServ = safe(id)
	for _, r := range list {
		switch v := r.(type) {
		case *authres.SPFResult:
			if s.SPF == "" { // of several the first, which is MAIL FROM's
				s.SPF = safe(string(v.Value))
			}
		case *authres.DKIMResult:
			if len(s.DKIM) < maxSignatures {
				s.DKIM = append(s.DKIM, DKIM{Result: safe(string(v.Value)), Domain: safe(strings.ToLower(v.Domain))})
			}
		case *authres.DMARCResult:
			// Two that differ are worth nothing.
			if value := safe(string(v.Value)); s.DMARC == "" {
				s.DMARC, s.From = value, safe(strings.ToLower(v.From))
			} else if s.DMARC != value {
				s.DMARC = PermError
			}
		}
	}
	return s
}
