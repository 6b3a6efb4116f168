package webui

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"mailward/health"
	"mailward/policy"
	"mailward/quarantine"
)

type option struct{ Value, Text string }

func pressed(on bool) string { return strconv.FormatBool(on) }

func themeIs(have, button string) bool {
	return have == button || have == "" && button == "system"
}

// word is the text for a value of a fixed vocabulary; a value that we do not
// know is shown as it is.
func (l lang) word(group, value string) string {
	if l.Has(group + "." + value) {
		return l.T(group + "." + value)
	}
	return value
}

func known(c policy.Class) string {
	if slices.Contains(policy.Classes(), c) {
		return string(c)
	}
	return "broken"
}

func classIcon(c policy.Class) string {
	switch c {
	case policy.Malware:
		return "bug"
	case policy.Phishing:
		return "fish"
	case policy.Suspicious:
		return "scan-search"
	case policy.Spam:
		return "megaphone"
	case policy.DLP:
		return "file-text"
	case policy.Encrypted:
		return "lock"
	case policy.Unscannable:
		return "file-x"
	case policy.Clean:
		return "circle-check"
	}
	return "file-warning"
}

func stateTone(s quarantine.State) string {
	switch s {
	case quarantine.Released:
		return "ok"
	case quarantine.Failed, quarantine.OutcomeUnknown:
		return "crit"
	case quarantine.ReleaseRequested, quarantine.ReleaseScheduled, quarantine.Delivering:
		return "info"
	case quarantine.Held, quarantine.Quarantined:
		return "warn"
	}
	return "none"
}

func healthTone(s health.State) string {
	switch s {
	case health.Up:
		return "ok"
	case health.Degraded:
		return "warn"
	case health.Down, health.NotAuthorised:
		return "crit"
	case health.Maintenance:
		return "info"
	}
	return "none"
}

func toneIcon(tone string) string {
	switch tone {
	case "ok":
		return "circle-check"
	case "warn":
		return "triangle-alert"
	case "crit":
		return "circle-x"
	case "info":
		return "info"
	}
	return "circle-help"
}

type drawerKey struct{}

// withDrawer has the page show d beside it.
func withDrawer(ctx context.Context, d templ.Component) context.Context {
	return context.WithValue(ctx, drawerKey{}, d)
}

func drawerOf(ctx context.Context) templ.Component {
	d, _ := ctx.Value(drawerKey{}).(templ.Component)
	return d
}

// listLink builds the addresses of a list: the same filter with another page
// or open row. Empty values are dropped and keys are sorted, so that one
// view has one address.
type listLink struct {
	path string
	set  url.Values // the filter, without page and open row
	page int
	size int
	next string // cursor
	at   string // cursor of this page
}

func (l listLink) with(pairs ...string) string {
	v := url.Values{}
	for k, list := range l.set {
		v[k] = list
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			v.Del(pairs[i])
		} else {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	for k := range v {
		v[k] = slices.DeleteFunc(slices.Clone(v[k]), func(s string) bool { return s == "" })
		if len(v[k]) == 0 {
			delete(v, k)
		}
	}
	if len(v) == 0 {
		return l.path
	}
	return l.path + "?" + v.Encode()
}

func (l listLink) pageValue(n int) string {
	if n <= 1 {
		return ""
	}
	return strconv.Itoa(n)
}

// here is this page with a row open, or with none.
func (l listLink) here(open string, more ...string) string {
	return l.with(append([]string{"after", l.at, "page", l.pageValue(l.page), "id", open}, more...)...)
}

func (l listLink) firstPage() string { return l.with() }

func (l listLink) nextPage() string {
	return l.with("after", l.next, "page", l.pageValue(l.page+1))
}

func (l listLink) first() int { return (l.page-1)*l.size + 1 }

type kpiTile struct {
	Title, Value, Unit, Note, Href string
	Worse                          bool
	Series                         []float64
}

// hasAttachment says whether a mail carries a file.
func hasAttachment(parts []policy.Part) bool {
	return slices.ContainsFunc(parts, func(p policy.Part) bool {
		return p.Disposition == "attachment" || p.Name != "" && p.Disposition != "inline"
	})
}

// quietMeta is what a rule says that the finding shows already, or that is for
// those who write rules.
var quietMeta = []string{"set_id", "description", "class", "score", "severity", "file"}

// metaOf is what a rule says about itself, in a fixed order.
func metaOf(f policy.Finding) [][2]string {
	var names []string
	for k := range f.Meta {
		names = append(names, k)
	}
	slices.Sort(names)
	var out [][2]string
	for _, k := range names {
		if v := f.Meta[k]; v != "" && v != f.Reason && !slices.Contains(quietMeta, k) {
			out = append(out, [2]string{k, v})
		}
	}
	return out
}

// extraReasons are the reasons of a decision that no finding says already.
func extraReasons(list []policy.Finding, reasons []string) []string {
	var out []string
	for _, r := range reasons {
		if !slices.ContainsFunc(list, func(f policy.Finding) bool { return f.Reason == r || f.Name != "" && strings.Contains(r, f.Name) }) {
			out = append(out, r)
		}
	}
	return out
}

func addresses(list []policy.RecipientDecision) []string {
	out := make([]string, len(list))
	for i, r := range list {
		out[i] = r.Address
	}
	return out
}
