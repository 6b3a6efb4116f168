package webui

import (
	"encoding/json"
	"strings"
)

// senderCheck is what one method says of who sent a mail.
type senderCheck struct {
	Method string `json:"method"`
	Result string `json:"result"`
	Domain string `json:"domain"`
	Reason string `json:"reason"`
	// Aligned says that the domain is the author's, as DMARC compares them.
	Aligned bool `json:"aligned"`
}

// checksOf reads the results that the gateway stored; none when there are none
// or when they are not in a form that we know. Old records are a list.
func checksOf(auth []byte) []senderCheck {
	var list []senderCheck
	if json.Unmarshal(auth, &list) == nil {
		return list[:min(len(list), 20)]
	}
	var r struct {
		SPF, ARC, IPRev senderCheck
		DKIM            []senderCheck
		DMARC           struct {
			senderCheck
			SPFAligned bool `json:"spf_aligned"`
		}
	}
	if json.Unmarshal(auth, &r) != nil {
		return nil
	}
	add := func(method string, c senderCheck) {
		if c.Method = method; c.Result != "" {
			list = append(list, c)
		}
	}
	r.SPF.Aligned = r.DMARC.SPFAligned
	add("spf", r.SPF)
	for _, d := range r.DKIM[:min(len(r.DKIM), 20)] {
		add("dkim", d)
	}
	add("dmarc", r.DMARC.senderCheck)
	add("arc", r.ARC)
	add("iprev", r.IPRev)
	return list
}

func (c senderCheck) name() string { return strings.ToUpper(plain(c.Method, 12)) }

func (c senderCheck) tone() string {
	switch c.Result {
	case "pass":
		return "ok"
	case "fail", "permerror":
		return "crit"
	case "softfail", "temperror":
		return "warn"
	}
	return "none"
}

// sealed is what one of those who passed a mail on says that it saw.
type sealed struct {
	Sealer string        `json:"sealer"`
	SPF    string        `json:"spf"`
	DMARC  string        `json:"dmarc"`
	From   string        `json:"from"`
	DKIM   []senderCheck `json:"dkim"`
}

// dkim is the best result that the sealer saw.
func (s sealed) dkim() string {
	best := ""
	for _, k := range s.DKIM {
		if best == "" || k.Result == "pass" {
			best = k.Result
		}
	}
	return best
}

// chainOf is the ARC chain of a mail, oldest first. Only of a chain that holds
// it is known what its sealers saw; of another one they are names.
func chainOf(auth []byte) (list []sealed) {
	var r struct {
		ARC struct {
			Sealers []string `json:"sealers"`
			Seen    []sealed `json:"seen"`
		} `json:"arc"`
	}
	if json.Unmarshal(auth, &r) != nil {
		return nil
	}
	list = r.ARC.Seen
	if len(list) == 0 {
		for _, name := range r.ARC.Sealers {
			list = append(list, sealed{Sealer: name})
		}
	}
	return list[:min(len(list), 50)]
}
