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
}

// checksOf reads the results that the gateway stored; none when there are none
// or when they are not in a form that we know. Old records are a list.
func checksOf(auth []byte) []senderCheck {
	var list []senderCheck
	if json.Unmarshal(auth, &list) == nil {
		return list[:min(len(list), 20)]
	}
	var r struct {
		SPF, DMARC, ARC, IPRev senderCheck
		DKIM                   []senderCheck
	}
	if json.Unmarshal(auth, &r) != nil {
		return nil
	}
	add := func(method string, c senderCheck) {
		if c.Method = method; c.Result != "" {
			list = append(list, c)
		}
	}
	add("spf", r.SPF)
	for _, d := range r.DKIM[:min(len(r.DKIM), 20)] {
		add("dkim", d)
	}
	add("dmarc", r.DMARC)
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
