package mailauth

import (
	"encoding/json"
	"fmt"
	"slices"
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
//
// All of it stays below maxResults. Nothing is cut off for that: in what was cut
// nobody can read, and a sender can make its signatures' tags as long as it
// takes. The results of all methods are there, of signatures at least with their
// domain.
func (r Result) header() string {
	var list, rest []string
	if r.SPF.Identity != "helo" {
		list = append(list, r.SPF.header("smtp.mailfrom"))
	}
	if r.HELO.Result != "" {
		list = append(list, r.HELO.header("smtp.helo"))
	} else if r.SPF.Identity == "helo" {
		list = append(list, r.SPF.header("smtp.helo"))
	}
	rest = append(rest, r.DMARC.header())
	if r.ARC.Result != "" && r.ARC.Result != None {
		rest = append(rest, r.ARC.header())
	}
	if r.IPRev.Result != "" {
		rest = append(rest, method("iprev", r.IPRev.Result, r.IPRev.Reason, "policy.iprev", r.IPRev.IP))
	}
	if len(r.DKIM) == 0 {
		list = append(list, "dkim=none")
	}
	room := maxResults - len(strings.Join(slices.Concat(list, rest), "; "))
	return strings.Join(slices.Concat(list, dkimHeaders(r.DKIM, room), rest), "; ")
}

// maxResults bounds the results in a header: more than five usual signatures
// need, and less than what the gateway takes.
const maxResults = 3900

// dkimHeaders writes the results of signatures, in full as long as there is room.
func dkimHeaders(list []DKIM, room int) []string {
	out := make([]string, len(list))
	for i, d := range list {
		out[i] = method("dkim", d.Result, "", "header.d", d.Domain)
		room -= len("; ") + len(out[i])
	}
	for i, d := range list {
		if full := d.header(); len(full)-len(out[i]) <= room {
			room -= len(full) - len(out[i])
			out[i] = full
		}
	}
	return out
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

func (d DMARC) header() string {
	return method("dmarc", d.Result, d.Reason, "header.from", d.Domain, "policy.dmarc", d.Policy)
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

// value writes a property's value: as it is where it is a token, or a domain with
// or without a local part that is none too odd, else quoted (RFC 8601 §2.2).
func value(s string) string {
	local, domain, at := cutLast(s, "@")
	switch {
	case !at && plainToken(s):
		return s
	case at && plainDomain(domain) && (local == "" || plainToken(local) && !strings.Contains("."+local+".", "..")):
		return s
	}
	return quoted(s)
}

// plainToken says whether s is a token (RFC 2045 §5.1) of the usual characters.
func plainToken(s string) bool {
	for _, c := range []byte(s) {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._+", c) >= 0
		if !plain {
			return false
		}
	}
	return s != ""
}

// plainDomain says whether s is a domain name of at least two labels.
func plainDomain(s string) bool {
	return dnsName(s) && strings.Contains(s, ".") && !strings.Contains(s, "_")
}

func quoted(s string) string {
	return `"` + strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' || r == ';' { // many readers split at each semicolon
			return '_'
		}
		return r
	}, s) + `"`
}
