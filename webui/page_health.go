package webui

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"mailward/health"
)

// healthFreshFor is for how many seconds an answer counts as new.
const healthFreshFor = 60

// healthSlots is how many bars the timeline of a card has: an hour, by two
// minutes.
const healthSlots = 30

type healthView struct {
	Report health.Report
	Range  healthRange
	Groups []healthGroup
	Lead   string
	Text   string
	Tone   string
}

type healthGroup struct {
	Title string
	Cards []healthCard
}

type healthCard struct {
	health.Status
	Reason   string
	Foreign  bool // the reason is in English on a page that is not
	P50, P95 float64
	Latency  []float64
	Slots    []health.State
	From     time.Time
	UpShare  float64 // -1: nothing known
	Facts    [][2]string
}

// groupOf gathers what a person looks at together; groupOrder is the order of
// the page.
var (
	groupOf    = map[string]string{"delivery": "flow", "next_hop": "flow", "engines": "engines", "integrations": "integrations"}
	groupOrder = []string{"flow", "engines", "platform", "integrations"}
)

// stateRank puts what needs a look first.
func stateRank(s health.State) int { return -slices.Index(health.States(), s) }

func componentIcon(name string) string {
	kind, _, _ := strings.Cut(name, ":")
	switch kind {
	case "postgresql", "redis":
		return "database"
	case "clamav":
		return "bug"
	case "scanner":
		return "cpu"
	case "next_hop":
		return "server"
	case "smtp":
		return "mail"
	case "audit":
		return "scroll-text"
	case "delivery_queue":
		return "inbox"
	case "disk":
		return "hard-drive"
	case "cti":
		return "scroll-text"
	}
	return "network"
}

func (s *pages) getHealth(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), 4*time.Second)
	defer cancel()
	p := s.frame(c, "health")
	v := s.healthView(ctx, p, s.monitor.Check(ctx), healthRangeOf(c))
	if isFragment(c, "health") {
		return s.render(c, http.StatusOK, healthBody(p, v))
	}
	return s.render(c, http.StatusOK, healthPage(p, v))
}

func (s *pages) healthView(ctx context.Context, p *frame, r health.Report, span healthRange) healthView {
	v := healthView{Report: r, Range: span, Tone: healthTone(r.State), Lead: p.T("health.lead." + string(r.State)), Text: healthSentence(p, r)}
	byGroup := map[string][]healthCard{}
	for _, st := range r.Components {
		g := cmp.Or(groupOf[st.Group], "platform")
		card := s.healthCard(p, st)
		if span.Key != healthRanges[0].Key {
			card.showPast(s.past(ctx, span, p.Now), span)
		}
		byGroup[g] = append(byGroup[g], card)
	}
	for _, g := range groupOrder {
		cards := byGroup[g]
		if len(cards) == 0 {
			continue
		}
		slices.SortStableFunc(cards, func(a, b healthCard) int { return cmp.Compare(stateRank(a.State), stateRank(b.State)) })
		v.Groups = append(v.Groups, healthGroup{Title: p.T("health.group." + g), Cards: cards})
	}
	return v
}

// healthEffects are what components that are not as they should be mean for mail, the
// worst first.
var healthEffects = []string{"stops", "fails", "weak", "unknown"}

// effectOf is which of them a component has; "": it needs no look.
func effectOf(r health.Report, st health.Status) string {
	switch {
	case r.Stopping(st):
		return "stops"
	case st.State == health.Down, st.State == health.NotAuthorised:
		return "fails"
	case st.State == health.Degraded:
		return "weak"
	case st.State == health.Unknown:
		return "unknown"
	}
	return ""
}

// namedComponents is how many components one sentence names.
const namedComponents = 8

// healthSentence says what the components that need a look mean for mail: of one alone
// all that is known, of several a sentence for each effect that names them. The card of
// each says the rest.
func healthSentence(p *frame, r health.Report) string {
	names := map[string][]string{}
	var last health.Status
	n := 0
	for _, st := range r.Components {
		if e := effectOf(r, st); e != "" {
			names[e] = append(names[e], componentTitle(p, st))
			last, n = st, n+1
		}
	}
	switch {
	case n == 0 && r.State == health.Up:
		return p.T("health.allgood")
	case n == 1:
		text, _ := healthText(p, last.Says, last.Reason)
		return text
	}
	var parts []string
	for _, e := range healthEffects {
		list := names[e]
		if len(list) == 0 {
			continue
		}
		text := strings.Join(list[:min(len(list), namedComponents)], "; ")
		if more := len(list) - namedComponents; more > 0 {
			text = p.T("health.more", text, more)
		}
		parts = append(parts, p.T("health.effect."+e, text))
	}
	return strings.Join(parts, " ")
}

func componentTitle(p *frame, st health.Status) string { return p.component(st.Name, st.Title) }

func (s *pages) healthCard(p *frame, st health.Status) healthCard {
	card := healthCard{Status: st, UpShare: -1}
	card.Reason, card.Foreign = healthText(p, st.Says, st.Reason)
	names := make([]string, 0, len(st.Facts))
	for k := range st.Facts {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		name := k
		if st.Name == "scanner" && k == "database" {
			name = "rules_version" // of YARA, not of signatures
		}
		card.Facts = append(card.Facts, [2]string{p.word("factname", name), factValue(p, st.Facts[k])})
	}
	samples := s.monitor.History(st.Name).Samples
	card.Latency = latencies(samples, 60)
	card.P50, card.P95 = quantile(samples, 0.5), quantile(samples, 0.95)
	card.Slots, card.From, card.UpShare = slots(samples, p.Now)
	return card
}

func factValue(p *frame, value string) string {
	if t, err := time.Parse(time.RFC3339, value); err == nil {
		return p.Full(t)
	}
	return plain(value, 200)
}

func latencies(samples []health.Sample, n int) []float64 {
	if len(samples) > n {
		samples = samples[len(samples)-n:]
	}
	out := make([]float64, len(samples))
	for i, x := range samples {
		out[i] = x.LatencyMS
	}
	return out
}

func quantile(samples []health.Sample, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	all := latencies(samples, len(samples))
	slices.Sort(all)
	return all[min(len(all)-1, int(q*float64(len(all))))]
}

// slots is the last hour by two minutes, the worst state of each. A slot
// without a check is unknown: nobody looked, so it is not green.
func slots(samples []health.Sample, now time.Time) ([]health.State, time.Time, float64) {
	from := now.Add(-time.Hour)
	out := make([]health.State, healthSlots)
	for i := range out {
		out[i] = health.Unknown
	}
	seen := make([]bool, healthSlots)
	up, all := 0, 0
	for _, x := range samples {
		i := int(x.At.Sub(from) / (time.Hour / healthSlots))
		if i < 0 || i >= healthSlots {
			continue
		}
		all++
		if x.State.Works() || x.State == health.NotConfigured {
			up++
		}
		if !seen[i] || slices.Index(health.States(), x.State) > slices.Index(health.States(), out[i]) {
			out[i], seen[i] = x.State, true
		}
	}
	if all == 0 {
		return out, from, -1
	}
	return out, from, float64(up) / float64(all)
}

// label says in a sentence what the timeline shows.
func (c healthCard) label(p *frame, r healthRange) string {
	if c.UpShare < 0 {
		return p.T("health.timeline.none", componentTitle(p, c.Status), p.T("health.range."+r.Key))
	}
	return p.T("health.timeline", componentTitle(p, c.Status), p.Percent(c.UpShare, 1), p.word("health.state", string(c.State)), p.T("health.range."+r.Key))
}

// since says how long a component has been in its state; a last good answer is
// named while there is none.
func (c healthCard) since(p *frame) string {
	s := p.T("health.since", p.Span(p.Now.Sub(c.Since)))
	if c.Since.IsZero() {
		s = ""
	}
	if !c.State.Works() && c.LastGood != nil {
		s += " · " + p.T("health.lastgood", p.Short(*c.LastGood))
	}
	if c.AgeMS > 10_000 {
		s += " · " + p.T("health.age", p.Span(time.Duration(c.AgeMS)*time.Millisecond))
	}
	return strings.TrimPrefix(s, " · ")
}
