package mailauth

import "strings"

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
	id, list, ok := parseResults(results)
	if !ok {
		return s
	}
	s.AuthServ = safe(id)
	for _, r := range list {
		switch value := safe(r.result); r.method {
		case "spf":
			if s.SPF == "" { // of several the first, which is MAIL FROM's
				s.SPF = value
			}
		case "dkim":
			if len(s.DKIM) < maxSignatures {
				s.DKIM = append(s.DKIM, DKIM{Result: value, Domain: signerOf(r)})
			}
		case "dmarc":
			// Two that differ are worth nothing.
			if from := domainIn(r.properties["header.from"]); s.DMARC == "" {
				s.DMARC, s.From = value, from
			} else if s.DMARC != value || s.From != from {
				s.DMARC = PermError
			}
		}
	}
	return s
}

// signerOf is the domain that signed. Google writes i= only, which is below d=
// or d= itself.
func signerOf(r methodResult) string {
	if d, ok := r.properties["header.d"]; ok {
		return domainIn(d)
	}
	return domainIn(r.properties["header.i"])
}

// domainIn is the domain of a property, with or without a local part before it;
// "" where it is none.
func domainIn(s string) string {
	if _, domain, ok := cutLast(s, "@"); ok {
		s = domain
	}
	d, err := aLabels(s)
	if err != nil {
		return ""
	}
	return safeName(d)
}
