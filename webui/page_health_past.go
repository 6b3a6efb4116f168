package webui

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"mailward/health"
	"mailward/quarantine"
)

// healthRange is how far back the health page looks.
type healthRange struct {
	Key        string
	Span, Slot time.Duration
}

// healthRanges: the first is what this process remembers itself, check by check.
var healthRanges = []healthRange{{"1h", time.Hour, 2 * time.Minute}, {"24h", 24 * time.Hour, 15 * time.Minute}, {"7d", 7 * 24 * time.Hour, 2 * time.Hour},
	{"30d", 30 * 24 * time.Hour, 8 * time.Hour}, {"13m", 396 * 24 * time.Hour, 4 * 24 * time.Hour}}

func healthRangeOf(c echo.Context) healthRange {
	for _, r := range healthRanges {
		if r.Key == c.QueryParam("range") {
			return r
		}
	}
	return healthRanges[0]
}

func (r healthRange) query() string {
	if r.Key == healthRanges[0].Key {
		return ""
	}
	return "?range=" + r.Key
}

// pastKept is how long a reading of the history serves the page, which asks anew
// each few seconds.
const pastKept = 30 * time.Second

// pastCache keeps the last reading of each range.
type pastCache struct {
	mu   sync.Mutex // guards what follows
	read map[string]pastReading
}

type pastReading struct {
	at, from time.Time
	slots    map[string][]health.Slot
}

func (s *pages) past(ctx context.Context, r healthRange, now time.Time) pastReading {
	s.pastOf.mu.Lock()
	defer s.pastOf.mu.Unlock()
	if x, ok := s.pastOf.read[r.Key]; ok && now.Sub(x.at) >= 0 && now.Sub(x.at) < pastKept {
		return x
	}
	from := now.UTC().Add(-r.Span).Truncate(r.Slot).Add(r.Slot)
	slots, err := s.monitor.Read(ctx, "", from, r.Slot, r.Span)
	if err != nil {
		s.log.Warn("history of health not read", "error", err)
	}
	x := pastReading{at: now, from: from, slots: slots}
	if s.pastOf.read == nil {
		s.pastOf.read = map[string]pastReading{}
	}
	s.pastOf.read[r.Key] = x
	return x
}

// showPast puts the history of a longer time on a card.
func (card *healthCard) showPast(x pastReading, r healthRange) {
	list := x.slots[card.Name]
	n := int(r.Span / r.Slot)
	card.Slots, card.From, card.UpShare, card.Latency = slices.Repeat([]health.State{health.Unknown}, n), x.from, -1, nil
	var good, all int64
	var p50, p95 []float64
	for _, sl := range list {
		if i := int(sl.At.Sub(x.from) / r.Slot); i >= 0 && i < n {
			card.Slots[i] = sl.Worst
		}
		good, all = good+sl.Good+sl.Slow, all+sl.Checks
		p50, p95 = append(p50, sl.P50), append(p95, sl.P95)
	}
	card.Latency = p95
	if all > 0 {
		card.UpShare = float64(good) / float64(all)
	}
	slices.Sort(p50)
	sorted := slices.Sorted(slices.Values(p95))
	if len(p50) > 0 {
		card.P50, card.P95 = p50[len(p50)/2], sorted[min(len(sorted)-1, len(sorted)*95/100)]
	}
}

// componentView is one component with its past.
type componentView struct {
	Card    healthCard
	Range   healthRange
	Slots   []health.Slot
	Changes []health.Changed
}

// changesShown is how many changes of a component its page lists.
const changesShown = 50

func (s *pages) getComponent(c echo.Context) error {
	name, err := url.PathUnescape(c.Param("component"))
	st, ok := s.monitor.Latest().Component(name)
	if err != nil || !ok {
		return s.failure(c, quarantine.ErrNotFound)
	}
	p, r := s.frame(c, "health"), healthRangeOf(c)
	if c.QueryParam("range") == "" {
		r = healthRanges[1]
	}
	v := componentView{Card: s.healthCard(p, st), Range: r}
	if r.Key != healthRanges[0].Key {
		x := s.past(c.Request().Context(), r, p.Now)
		v.Card.showPast(x, r)
		v.Slots = slices.Clone(x.slots[name])
		slices.Reverse(v.Slots)
	}
	if v.Changes, err = s.monitor.Changes(c.Request().Context(), name, changesShown); err != nil {
		s.log.Warn("changes of a component not read", "component", name, "error", err)
	}
	return s.render(c, http.StatusOK, componentPage(p, v))
}
