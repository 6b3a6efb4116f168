package webui

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"mailward/health"
)

// Plots are SVG made here: they need no script, print well and obey the
// Content-Security-Policy. Numbers go into attributes, colours are classes, and
// the only text in them is escaped.

// sparkline is a small line without axes. Without a label it is decoration:
// the number stands beside it.
func sparkline(values []float64, slow bool, label string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		const width, height = 120.0, 30.0
		class := "spark"
		if slow {
			class += " slow"
		}
		top := 0.0
		for _, v := range values {
			top = math.Max(top, v)
		}
		var b strings.Builder
		fmt.Fprintf(&b, `<svg class="%s" viewBox="0 0 120 30" preserveAspectRatio="none" %s>`, class, imageLabel(label))
		if len(values) > 1 {
			var line strings.Builder
			for i, v := range values {
				y := height - 2
				if top > 0 {
					y = height - 2 - v/top*(height-6)
				}
				cmd := "L"
				if i == 0 {
					cmd = "M"
				}
				line.WriteString(cmd + num(float64(i)*width/float64(len(values)-1)) + " " + num(y))
			}
			fmt.Fprintf(&b, `<path class="area" d="%sL120 30L0 30Z"></path><path class="line" d="%s"></path>`, line.String(), line.String())
		}
		b.WriteString(`</svg>`)
		_, err := io.WriteString(w, b.String())
		return err
	})
}

func imageLabel(label string) string {
	if label == "" {
		return `aria-hidden="true"`
	}
	return `role="img" aria-label="` + templ.EscapeString(label) + `"`
}

func num(f float64) string { return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64) }

// timeline shows the states of a component, oldest left: one bar per slot.
func timeline(states []health.State, label string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		var b strings.Builder
		n := max(1, len(states))
		fmt.Fprintf(&b, `<svg class="timeline" viewBox="0 0 %d 20" preserveAspectRatio="none" %s>`, n*4, imageLabel(label))
		for i, s := range states {
			tone := healthTone(s)
			if tone == "info" {
				tone = "none"
			}
			fmt.Fprintf(&b, `<rect class="%s" x="%s" y="0" width="3" height="20"></rect>`, tone, num(float64(i*4)+0.5))
		}
		b.WriteString(`</svg>`)
		_, err := io.WriteString(w, b.String())
		return err
	})
}

// series is one colour of a stacked plot.
type series struct {
	Name   string
	Class  string // f1 to f4
	Values []float64
}

// stacked draws bars, one per slot, the first series at the bottom. The scale
// is in the page beside it, so that its text keeps its size on a phone.
func stacked(list []series, top float64, label string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		const height = 200.0
		var b strings.Builder
		n := 1
		if len(list) > 0 {
			n = max(1, len(list[0].Values))
		}
		fmt.Fprintf(&b, `<svg class="plot" viewBox="0 0 %d 200" height="200" preserveAspectRatio="none" %s>`, n*10, imageLabel(label))
		for _, y := range []string{"0.5", "50", "100", "150", "199.5"} {
			fmt.Fprintf(&b, `<line class="gridline" x1="0" x2="%d" y1="%s" y2="%s" vector-effect="non-scaling-stroke"></line>`, n*10, y, y)
		}
		for i := range n {
			at := height
			for _, s := range list {
				if s.Values[i] <= 0 || top <= 0 {
					continue
				}
				h := math.Max(s.Values[i]/top*height, 1.5)
				at = math.Max(0, at-h)
				fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%s" width="8" height="%s"></rect>`, s.Class, i*10+1, num(at), num(h))
			}
		}
		b.WriteString(`</svg>`)
		_, err := io.WriteString(w, b.String())
		return err
	})
}

// niceTop is a round number not below the largest sum of a slot, with four
// even steps.
func niceTop(list []series) float64 {
	top := 0.0
	if len(list) == 0 {
		return 4
	}
	for i := range list[0].Values {
		sum := 0.0
		for _, s := range list {
			sum += s.Values[i]
		}
		top = math.Max(top, sum)
	}
	if top <= 4 {
		return 4
	}
	step := math.Pow(10, math.Floor(math.Log10(top/4)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if s := step * m; s == math.Trunc(s) && s*4 >= top {
			return s * 4
		}
	}
	return math.Ceil(top/4) * 4
}
