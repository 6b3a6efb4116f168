package intel

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// victim is what ransomware.live says of one: version 2 of its API, the paid one,
// and names of fields that older answers have.
type victim struct {
	Victim     string `json:"victim"`
	PostTitle  string `json:"post_title"`
	Group      string `json:"group"`
	GroupName  string `json:"group_name"`
	Domain     string `json:"domain"`
	Website    string `json:"website"`
	Attacked   string `json:"attackdate"`
	Discovered string `json:"discovered"`
	Published  string `json:"published"`
	URL        string `json:"url"`
	Permalink  string `json:"permalink"`
}

// victims reads a list of them. What criminals claim makes nobody's mail bad, so
// each is only noted: with the domain of the victim, never with the address of
// the claim, which nobody should open.
func (c *client) victims(b []byte, a *answer, now time.Time) error {
	a.complete = false // the newest hundred: those before are no less robbed
	var list []json.RawMessage
	var paid struct {
		Victims []json.RawMessage `json:"victims"`
	}
	switch {
	case json.Unmarshal(b, &list) == nil:
	case json.Unmarshal(b, &paid) == nil && paid.Victims != nil:
		list = paid.Victims
	default:
		return feedAlarm(CodeNotAFeed, "the answer is no list of victims")
	}
	for _, raw := range list {
		var v victim
		if json.Unmarshal(raw, &v) != nil {
			a.refused++
			continue
		}
		if i, ok := v.indicator(); ok {
			a.take(i, c.cfg, now)
		}
		if len(a.list) > feedRowsMost {
			return tooManyRows()
		}
	}
	return someRows(a)
}

var tags = regexp.MustCompile(`<[^>]*>`)

func (v victim) indicator() (Indicator, bool) {
	name := first(v.Domain, v.Website)
	if i := strings.Index(name, "://"); i >= 0 {
		name = name[i+3:]
	}
	if i := strings.IndexAny(name, "/?#"); i >= 0 {
		name = name[:i]
	}
	name = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "www.")
	if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") || strings.HasSuffix(name, ".onion") {
		return Indicator{}, false // many have none
	}
	seen := readTime(first(v.Discovered, v.Published, v.Attacked))
	i := Indicator{Value: name, Kind: Domain, Class: Breach, Confidence: -1, FirstSeen: seen, LastSeen: seen,
		Note: tags.ReplaceAllString(first(v.Victim, v.PostTitle), "") + ", claimed by " + tags.ReplaceAllString(first(v.Group, v.GroupName, "somebody"), "")}
	for _, link := range []string{v.Permalink, v.URL} {
		if u, err := url.Parse(link); err == nil && u.Scheme == "https" && (u.Hostname() == "ransomware.live" || strings.HasSuffix(u.Hostname(), ".ransomware.live")) {
			i.Reference = link
			break
		}
	}
	return i, true
}

func first(list ...string) string {
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			return s
		}
	}
	return ""
}
