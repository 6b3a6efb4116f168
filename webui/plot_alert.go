package webui

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"

	"mailward/alerting/rule"
)

// plotPoints is how many a plot has at most; of several values in one the most
// extreme is shown.
const plotPoints = 480

// noisyPerWeek is from when on a rule would wake people too often.
const noisyPerWeek = 12

func (v alertPreview) noisy() bool { return len(v.Episodes)*7 > noisyPerWeek*max(v.Days, 1) }

// newest are the episodes, the newest first, as many as somebody reads.
func (v alertPreview) newest() []rule.Episode {
	list := slices.Clone(v.Episodes)
	slices.SortFunc(list, func(a, b rule.Episode) int { return b.From.Compare(a.From) })
	return list[:min(len(list), 50)]
}

// ends of the time that is shown.
func (v alertPreview) ends() []time.Time {
	if len(v.Points) == 0 {
		return nil
	}
	return []time.Time{v.Points[0].At, v.Points[len(v.Points)-1].At}
}

// top of the plot: above all values and the threshold.
func (v alertPreview) top(s rule.Spec) float64 {
	list := []float64{0}
	for _, x := range v.Points {
		list = append(list, x.Value)
	}
	if s.Compare != rule.Times {
		list = append(list, s.Threshold*1.1)
	}
	return niceTop([]series{{Values: list}})
}

// scale is what stands beside the plot, from the top.
func (v alertPreview) scale(s rule.Spec) []float64 {
	top := v.top(s)
	return []float64{top, top * 3 / 4, top / 2, top / 4, 0}
}

// alertPlot is a metric with the threshold of a rule, and the times at which it
// would have fired.
func alertPlot(v alertPreview, s rule.Spec, label string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		const height = 200.0
		top, n := v.top(s), len(v.Points)
		var b strings.Builder
		fmt.Fprintf(&b, `<svg class="plot alert-plot" viewBox="0 0 %d 200" height="200" preserveAspectRatio="none" %s>`, plotPoints, imageLabel(label))
		for _, y := range []string{"0.5", "50", "100", "150", "199.5"} {
			fmt.Fprintf(&b, `<line class="gridline" x1="0" x2="%d" y1="%s" y2="%s" vector-effect="non-scaling-stroke"></line>`, plotPoints, y, y)
		}
		if n > 1 {
			begin, span := v.Points[0].At, v.Points[n-1].At.Sub(v.Points[0].At)
			x := func(t time.Time) float64 { return float64(t.Sub(begin)) / float64(span) * plotPoints }
			for _, e := range v.Episodes {
				to := e.To
				if to.IsZero() {
					to = v.Points[n-1].At
				}
				fmt.Fprintf(&b, `<rect class="episode" x="%s" y="0" width="%s" height="200"></rect>`, num(x(e.From)), num(math.Max(x(to)-x(e.From), 1.5)))
			}
			fmt.Fprintf(&b, `<path class="line" d="%s" vector-effect="non-scaling-stroke"></path>`, plotPath(v.Points, s.Compare == rule.Below, x, func(f float64) float64 { return height - f/top*height }))
		}
		if s.Compare != rule.Times && top > 0 {
			y := num(height - s.Threshold/top*height)
			fmt.Fprintf(&b, `<line class="threshold" x1="0" x2="%d" y1="%s" y2="%s" vector-effect="non-scaling-stroke"></line>`, plotPoints, y, y)
		}
		b.WriteString(`</svg>`)
		_, err := io.WriteString(w, b.String())
		return err
	})
}

// plotPath is the line; where there are no values, it is broken.
func plotPath(points []rule.Point, lowest bool, x func(time.Time) float64, y func(float64) float64) string {
	var b strings.Builder
	per, broken := max(1, (len(points)+plotPoints-1)/plotPoints), true
	for chunk := range slices.Chunk(points, per) {
		v, has := 0.0, false
		for _, p := range chunk {
			if p.Has && (!has || (p.Value > v) != lowest) {
				v, has = p.Value, true
			}
		}
		if !has {
			broken = true
			continue
		}
		cmd := "L"
		if broken {
			cmd, broken = "M", false
		}
		b.WriteString(cmd + num(x(chunk[0].At)) + " " + num(y(v)))
	}
	return b.String()
}

func (f alertRuleForm) title(p *frame) string {
	if f.ID == uuid.Nil {
		return p.T("alert.rule.new")
	}
	return plain(f.Spec.Name, 100)
}

func (f alertRuleForm) sub(p *frame) string {
	switch {
	case f.ID == uuid.Nil:
		return p.T("alert.rules.sub")
	case !f.Enabled:
		return p.T("rules.disabled")
	}
	return p.T("rules.enabled")
}

func (f alertRuleForm) action() string {
	if f.ID == uuid.Nil {
		return "/alerts/rules"
	}
	return "/alerts/rules/" + f.ID.String()
}

// draftAction is where a draft is shown without scripts.
func (f alertRuleForm) draftAction() string {
	if f.ID == uuid.Nil {
		return "/alerts/rules/new"
	}
	return f.action()
}
