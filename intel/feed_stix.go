package intel

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"mailward/policy"
)

func urlQuery(s string) string { return url.QueryEscape(s) }

// stixIndicator is a STIX 2.1 indicator (§4.7).
type stixIndicator struct {
	Type        string   `json:"type"`
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Pattern     string   `json:"pattern"`
	PatternType string   `json:"pattern_type"`
	Types       []string `json:"indicator_types"`
	Labels      []string `json:"labels"`
	Confidence  *int     `json:"confidence"`
	Revoked     bool     `json:"revoked"`
	Created     string   `json:"created"`
	Modified    string   `json:"modified"`
	ValidUntil  string   `json:"valid_until"`
}

// comparison is the part of a pattern that names one value: what stands beside
// it may narrow it down, so only patterns of alternatives are taken.
var comparison = regexp.MustCompile(`(domain-name:value|url:value|ipv4-addr:value|ipv6-addr:value|email-addr:value|file:hashes\.'?SHA-?256'?)\s*=\s*'((?:[^'\\]|\\.)*)'`)

var narrowing = regexp.MustCompile(`(?i)\b(AND|FOLLOWEDBY|NOT|REPEATS)\b`)

var stixKinds = map[string]Kind{"domain-name": Domain, "url": URL, "ipv4-addr": IP, "ipv6-addr": IP, "email-addr": Email, "file": SHA256}

// takeSTIX takes the values that a pattern names. One with conditions beside is
// left out: half of it would match what is meant to be harmless.
func (c *client) takeSTIX(a *answer, o stixIndicator, now time.Time) {
	if o.Type != "indicator" {
		return
	}
	bare := comparison.ReplaceAllString(o.Pattern, "")
	found := comparison.FindAllStringSubmatch(o.Pattern, -1)
	if o.PatternType != "" && o.PatternType != "stix" || narrowing.MatchString(bare) || len(found) == 0 {
		a.refused++
		return
	}
	until := readTime(o.ValidUntil)
	for _, f := range found {
		object, _, _ := strings.Cut(f[1], ":")
		i := Indicator{Value: strings.NewReplacer(`\'`, `'`, `\\`, `\`).Replace(f[2]), Kind: stixKinds[object], Class: stixClass(append(o.Types, o.Labels...)), Confidence: -1,
			FirstSeen: readTime(o.Created), LastSeen: readTime(o.Modified), ExpiresAt: until, Note: o.Name, Reference: o.ID}
		if o.Confidence != nil {
			i.Confidence = min(max(*o.Confidence, 0), 100)
		}
		if v, err := Parse(i.Kind, i.Value); err == nil && (o.Revoked || !until.IsZero() && !until.After(now)) {
			a.gone = append(a.gone, v)
			continue
		}
		a.take(i, c.cfg, now)
	}
}

// bundle reads a file of STIX 2.1 (§8). Objects of other types are passed over,
// whatever is in them.
func (c *client) bundle(b []byte, a *answer, now time.Time) error {
	var in struct {
		Type    string            `json:"type"`
		Objects []json.RawMessage `json:"objects"`
	}
	if err := json.Unmarshal(b, &in); err != nil || in.Type != "bundle" {
		return feedAlarm(CodeNotAFeed, "the answer is no bundle of STIX")
	}
	for _, raw := range in.Objects {
		var o stixIndicator
		if json.Unmarshal(raw, &o) != nil {
			if bytes.Contains(raw, []byte(`"indicator"`)) {
				a.refused++
			}
			continue
		}
		if c.takeSTIX(a, o, now); len(a.list) > feedRowsMost {
			return tooManyRows()
		}
	}
	return someRows(a)
}

func stixClass(types []string) policy.Class {
	for _, t := range types {
		switch {
		case strings.Contains(t, "phish"):
			return policy.Phishing
		case slices.Contains([]string{"malicious-activity", "compromised"}, t), strings.Contains(t, "malware"):
			return policy.Malware
		case t == "anomalous-activity":
			return policy.Suspicious
		}
	}
	return ""
}
