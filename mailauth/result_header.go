package mailauth

import (
	"encoding/json"
	"fmt"
	"strings"
)

// finish writes the header value and the record.
func (r Result) finish() Result {
	r.Header = r.header()
	j, err := json.Marshal(r)
	if err == nil {
		r.JSON = j
	}
	return r
}

// header writes the results as RFC 8601 §2.2 has them, without the authserv-id.
// Each is a piece of its own, so that a reader who knows one method finds it.
func (r Result) header() string {
	var list []string
	if r.SPF.Identity != "helo" {
		list = append(list, r.SPF.header("smtp.mailfrom"))
	}
	if r.HELO.Result != "" {
		list = append(list, r.HELO.header("smtp.helo"))
	} else if r.SPF.Identity == "helo" {
		list = append(list, r.SPF.header("smtp.helo"))
	}
	if len(r.DKIM) == 0 {
		list = append(list, "dkim=none")
	}
	for _, d := range r.DKIM {
		list = append(list, d.header())
	}
	list = append(list, r.DMARC.header(r.From))
	if r.ARC.Result != "" && r.ARC.Result != None {
		list = append(list, r.ARC.header())
	}
	if r.IPRev.Result != "" {
		list = append(list, method("iprev", r.IPRev.Result, r.IPRev.Reason, "policy.iprev", r.IPRev.IP))
	}
	return strings.Join(list, "; ")
}

func (s SPF) header(property string) string {
	return method("spf", s.Result, s.Reason, property, s.Domain)
}

func (d DKIM) header() string {
	reason := d.Reason
	for _, f := range []struct {
		on   bool
		text string
	}{{d.Weak, fmt.Sprintf("weak key of %d bits", d.Bits)}, {d.Testing, "testing"}} {
		if f.on && reason == "" {
			reason = f.text
		} else if f.on {
			reason += ", " + f.text
		}
	}
	return method("dkim", d.Result, reason, "header.d", d.Domain, "header.i", d.Identity, "header.s", d.Selector, "header.a", d.Algorithm, "header.b", d.Signature)
}

func (d DMARC) header(from string) string {
	return method("dmarc", d.Result, d.Reason, "header.from", from, "policy.dmarc", d.Policy)
}

func (a ARC) header() string {
	result, reason := a.Result, a.Reason
	s := method("arc", result, reason)
	if result == Pass {
		// RFC 8617 §10.2: how long the mail is unchanged.
		s += fmt.Sprintf(" header.oldest-pass=%d", a.OldestPass)
	}
	return s
}

// method writes one result: its reason quoted, its properties as pairs of name
// and value. Empty values are left out.
func method(name, result, reason string, properties ...string) string {
	var b strings.Builder
	if result == "" {
		result = None
	}
	b.WriteString(name + "=" + result)
	if reason != "" {
		b.WriteString(" reason=" + quoted(reason))
	}
	for i := 0; i+1 < len(properties); i += 2 {
		if v := properties[i+1]; v != "" {
			b.WriteString(" " + properties[i] + "=" + value(v))
		}
	}
	return b.String()
}

// value writes a property's value: as it is where it is a token, a domain or an
// address with a local part that is none too odd, else quoted (RFC 8601 §2.2).
func value(s string) string {
	for _, c := range []byte(s) {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._+@", c) >= 0
		if !plain {
			return quoted(s)
		}
	}
	return s
}

func quoted(s string) string {
	return `"` + strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, s) + `"`
}
