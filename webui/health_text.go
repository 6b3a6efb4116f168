package webui

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"

	"mailward/health"
)

// healthText is what the state of a component means for mail, in the language of the
// page. What was kept before texts had names, or by another version, is there in
// English only: foreign, on a page that is not.
func healthText(p *frame, says health.Text, english string) (text string, foreign bool) {
	if text, ok := says.In(p.Code(), p.healthWord); ok {
		return text, false
	}
	return english, p.tag != language.English
}

// healthWord writes what a sentence of package health names.
func (l lang) healthWord(kind, value string) string {
	switch kind {
	case "title":
		return l.component(health.TitleArg(value))
	case "word":
		return health.Noun(l.Code(), value)
	case "list":
		named, more := health.ListArg(value)
		if text := strings.Join(named, "; "); more > 0 {
			return l.T("health.more", text, more)
		}
		return strings.Join(named, "; ")
	case "time":
		if t, err := time.Parse(time.RFC3339, value); err == nil {
			return l.Full(t)
		}
	case "day":
		if t, err := time.ParseInLocation(time.DateOnly, value, l.zone); err == nil {
			return l.Day(t)
		}
	case "span":
		if d, err := time.ParseDuration(value); err == nil {
			return l.lasting(d)
		}
	}
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		switch kind {
		case "n":
			return l.Int(n)
		case "ms":
			return l.T("unit.ms", n)
		case "bytes":
			return l.Bytes(n)
		}
	}
	return value
}

// lasting is a length of time, where also a part of a second counts.
func (l lang) lasting(d time.Duration) string {
	if d < 10*time.Second {
		return l.T("unit.sec", l.Float(d.Seconds(), 1))
	}
	return l.Span(d)
}

// component is the name of a component as people read it.
func (l lang) component(name, title string) string {
	kind, rest, _ := strings.Cut(name, ":")
	if l.Has("component." + kind) {
		return strings.TrimSpace(l.T("component."+kind) + " " + rest)
	}
	return title
}
