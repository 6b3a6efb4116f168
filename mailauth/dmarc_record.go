package mailauth

import (
	"net/url"
	"strings"
)

// dmarcRecord is a DMARC policy record (RFC 9989 §4.7).
type dmarcRecord struct {
	policy, sub, nonexistent string // p, sp, np; "" where not there
	broken                   bool   // p is missing or bad, or sp or np is bad
	reports                  bool   // rua has a good address
	psd                      string // y, n or u
	testing                  bool
	strictSPF, strictDKIM    bool
}

// parseDMARC reads a record; false where it is none. RFC 9989 §4.7: v comes
// first and to the letter, unknown tags are ignored, and of a known one with a
// bad value the default holds.
func parseDMARC(s string) (*dmarcRecord, bool) {
	version, rest, _ := strings.Cut(s, ";")
	name, value, _ := strings.Cut(version, "=")
	if !strings.EqualFold(trimWSP(name), "v") || trimWSP(value) != "DMARC1" {
		return nil, false
	}
	t := map[string]string{}
	for tag := range strings.SplitSeq(rest, ";") {
		name, value, ok := strings.Cut(tag, "=")
		name = strings.ToLower(trimWSP(name))
		if _, twice := t[name]; ok && !twice {
			t[name] = trimWSP(value)
		}
	}
	r := &dmarcRecord{psd: "u"}
	var bad [3]bool
	r.policy, bad[0] = request(t, "p")
	r.sub, bad[1] = request(t, "sp")
	r.nonexistent, bad[2] = request(t, "np")
	r.broken = r.policy == "" || bad[0] || bad[1] || bad[2]
	r.reports = hasAddress(t["rua"])
	if v := strings.ToLower(t["psd"]); v == "y" || v == "n" {
		r.psd = v
	}
	r.testing = strings.EqualFold(t["t"], "y")
	r.strictSPF = strings.EqualFold(t["aspf"], "s")
	r.strictDKIM = strings.EqualFold(t["adkim"], "s")
	return r, true
}

func trimWSP(s string) string { return strings.Trim(s, " \t") }

// request reads a tag that asks for a handling.
func request(t map[string]string, name string) (value string, bad bool) {
	v, ok := t[name]
	if !ok {
		return "", false
	}
	switch v = strings.ToLower(v); v {
	case None, Quarantine, Reject:
		return v, false
	}
	return "", true
}

// hasAddress says whether a list of URIs has a good one.
func hasAddress(list string) bool {
	for s := range strings.SplitSeq(list, ",") {
		if u, err := url.Parse(trimWSP(s)); err == nil && u.Scheme != "" && u.Opaque+u.Host != "" {
			return true
		}
	}
	return false
}

// wants is the policy for a domain, and the tag that has it. RFC 9989 §4.10.1: p
// is for the record's own domain, sp for those below, np for those below that do
// not exist. A record that is broken but wants reports counts as p=none; false:
// it is not applied at all.
func (r *dmarcRecord) wants(own, exists bool) (policy, tag string, apply bool) {
	switch {
	case r.broken:
		return None, "p", r.reports
	case own:
		return r.policy, "p", true
	case !exists && r.nonexistent != "":
		return r.nonexistent, "np", true
	case r.sub != "":
		return r.sub, "sp", true
	}
	return r.policy, "p", true
}
