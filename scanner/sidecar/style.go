package sidecar

import (
	"strconv"
	"strings"
)

// styled is what an element passes on: its own style, else what it is in.
func (p *page) styled(tag string, a attributes) element {
	e := p.top()
	e.tag = tag
	if len(a) == 0 {
		return e
	}
	if _, ok := a["hidden"]; ok && tag != "input" {
		e.hidden = true
	}
	if v, ok := a["bgcolor"]; ok {
		e.ground = colour(v)
	}
	if _, ok := a["background"]; ok {
		e.ground = -1
	}
	if v, ok := a["color"]; ok && tag == "font" {
		e.color = colour(v)
	}
	if v, ok := a["style"]; ok {
		e.css(v)
	}
	return e
}

// css applies a style attribute.
func (e *element) css(style string) {
	zero, clipped := false, false // a box of no size, that shows nothing beyond it
	for decl := range strings.SplitSeq(style, ";") {
		k, v, ok := strings.Cut(decl, ":")
		if !ok {
			continue
		}
		k, v = strings.ToLower(strings.TrimSpace(k)), strings.ToLower(strings.TrimSpace(v))
		v = strings.TrimSpace(strings.TrimSuffix(v, "!important"))
		switch k {
		case "display":
			e.hidden = e.hidden || v == "none"
		case "visibility":
			e.hidden = e.hidden || v == "hidden" || v == "collapse"
		case "mso-hide":
			e.hidden = e.hidden || v == "all"
		case "font-size":
			if n, ok := length(v); ok {
				e.hidden = n < 2 // a size that can be read undoes one that cannot
			}
		case "opacity":
			n, err := strconv.ParseFloat(v, 64)
			e.hidden = e.hidden || err == nil && n < 0.05
		case "color":
			e.color = colour(v)
		case "background-color":
			e.ground = colour(v)
		case "background":
			e.ground = colour(v)
			if word, _, _ := strings.Cut(v, " "); e.ground < 0 && !strings.Contains(v, "url") {
				e.ground = colour(word)
			}
		case "background-image":
			e.ground = -1
		case "height", "width", "max-height", "max-width":
			n, ok := length(v)
			zero = zero || ok && n == 0
		case "overflow":
			clipped = v == "hidden"
		case "text-indent", "left", "top", "margin-left":
			n, ok := length(v)
			e.hidden = e.hidden || ok && n < -900
		}
	}
	e.hidden = e.hidden || zero && clipped
}

// length reads the number of a CSS length in px or pt; of other units only zero
// says anything.
func length(v string) (float64, bool) {
	n := strings.TrimRight(v, "abcdefghijklmnopqrstuvwxyz%")
	f, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
	if err != nil {
		return 0, false
	}
	unit := v[len(n):]
	return f, f == 0 || unit == "px" || unit == "pt" || unit == ""
}

var namedColours = map[string]int{"white": 0xffffff, "black": 0, "red": 0xff0000, "blue": 0xff, "green": 0x8000, "yellow": 0xffff00, "gray": 0x808080, "grey": 0x808080, "silver": 0xc0c0c0,
	"whitesmoke": 0xf5f5f5, "snow": 0xfffafa, "ivory": 0xfffff0, "navy": 0x80, "orange": 0xffa500}

// colour reads a CSS or HTML colour; -1: not known.
func colour(v string) int {
	v = strings.ToLower(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "!important")))
	if c, ok := namedColours[v]; ok {
		return c
	}
	if inner, ok := strings.CutPrefix(v, "rgb("); ok {
		return rgb(strings.TrimSuffix(inner, ")"))
	}
	hex := strings.TrimPrefix(v, "#")
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil || len(hex) != 6 {
		return -1
	}
	return int(n)
}

func rgb(s string) int {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	if len(parts) != 3 {
		return -1
	}
	c := 0
	for _, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 255 {
			return -1
		}
		c = c<<8 | n
	}
	return c
}

// alike are colours that an eye does not tell apart.
func alike(a, b int) bool {
	diff := 0
	for shift := 0; shift <= 16; shift += 8 {
		d := a>>shift&0xff - b>>shift&0xff
		diff += max(d, -d)
	}
	return diff <= 18
}
