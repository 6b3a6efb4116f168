package webui

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/number"
)

//go:embed locales/*.toml
var localeFS embed.FS

// languages are the catalogues, the fallback first.
var languages = []language.Tag{language.English, language.German}

// catalog holds the texts of all languages.
type catalog struct {
	texts   map[language.Tag]map[string]string
	matcher language.Matcher
}

func newCatalog() (*catalog, error) {
	c := &catalog{texts: map[language.Tag]map[string]string{}, matcher: language.NewMatcher(languages)}
	for _, tag := range languages {
		data, err := localeFS.ReadFile("locales/" + tag.String() + ".toml")
		if err != nil {
			return nil, fmt.Errorf("read catalogue: %w", err)
		}
		texts := map[string]string{}
		if err := toml.Unmarshal(data, &texts); err != nil {
			return nil, fmt.Errorf("parse catalogue %s: %w", tag, err)
		}
		c.texts[tag] = texts
	}
	return c, nil
}

// pick chooses the language: what the person has set, then the cookie, then
// what the browser asks for.
func (c *catalog) pick(wishes ...string) lang {
	var tags []language.Tag
	for _, w := range wishes {
		if w == "" {
			continue
		}
		t, _, err := language.ParseAcceptLanguage(w)
		if err == nil {
			tags = append(tags, t...)
		}
	}
	_, at, _ := c.matcher.Match(tags...)
	return c.lang(languages[at])
}

func (c *catalog) lang(tag language.Tag) lang {
	return lang{tag: tag, texts: c.texts[tag], printer: message.NewPrinter(tag), zone: time.Local}
}

// lang is one language: it finds texts and writes numbers and times.
type lang struct {
	tag     language.Tag
	texts   map[string]string
	printer *message.Printer
	zone    *time.Location
}

// Code is the value of the lang attribute.
func (l lang) Code() string { return l.tag.String() }

// T is the text of a key with {0}, {1}... replaced. Numbers are written as the
// language writes them.
func (l lang) T(key string, args ...any) string {
	s, ok := l.texts[key]
	if !ok {
		return key // a test fails on every key that is missing
	}
	if len(args) == 0 {
		return s
	}
	pairs := make([]string, 0, 2*len(args))
	for i, a := range args {
		pairs = append(pairs, "{"+strconv.Itoa(i)+"}", l.arg(a))
	}
	return strings.NewReplacer(pairs...).Replace(s)
}

func (l lang) arg(a any) string {
	switch a := a.(type) {
	case string:
		return a
	case int:
		return l.Int(int64(a))
	case int64:
		return l.Int(a)
	default:
		return fmt.Sprint(a)
	}
}

// N is the text for a number of things: key.one or key.other, with {0} the
// number.
func (l lang) N(key string, n int, args ...any) string {
	form := ".other"
	if plural.Cardinal.MatchPlural(l.tag, n, 0, 0, 0, 0) == plural.One {
		form = ".one"
	}
	return l.T(key+form, append([]any{n}, args...)...)
}

// Has says whether there is a text of that key; for words that come as data.
func (l lang) Has(key string) bool {
	_, ok := l.texts[key]
	return ok
}

// Int writes a whole number.
func (l lang) Int(n int64) string { return l.printer.Sprint(number.Decimal(n)) }

// Float writes a number with so many decimals.
func (l lang) Float(f float64, decimals int) string {
	return l.printer.Sprint(number.Decimal(f, number.MinFractionDigits(decimals), number.MaxFractionDigits(decimals)))
}

// Percent writes a share.
func (l lang) Percent(share float64, decimals int) string {
	return l.T("unit.percent", l.Float(share*100, decimals))
}

// Short is a time in a list: day and minute.
func (l lang) Short(t time.Time) string {
	t = t.In(l.zone)
	if l.tag == language.German {
		return t.Format("02.01. 15:04")
	}
	return t.Format("2 Jan 15:04")
}

// ShortSec is a time in the audit: with seconds.
func (l lang) ShortSec(t time.Time) string {
	return l.Short(t) + t.In(l.zone).Format(":05")
}

// Full is a time with its year and zone.
func (l lang) Full(t time.Time) string {
	t = t.In(l.zone)
	if l.tag == language.German {
		return l.T("weekday."+strconv.Itoa(int(t.Weekday()))) + t.Format(", 02.01.2006, 15:04:05 MST")
	}
	return l.T("weekday."+strconv.Itoa(int(t.Weekday()))) + t.Format(" 2 Jan 2006, 15:04:05 MST")
}

// Day is a date.
func (l lang) Day(t time.Time) string {
	t = t.In(l.zone)
	if l.tag == language.German {
		return t.Format("02.01.2006")
	}
	return t.Format("2 Jan 2006")
}

// Clock is a time of day.
func (l lang) Clock(t time.Time) string { return t.In(l.zone).Format("15:04:05") }

// Ago is how long ago something was.
func (l lang) Ago(d time.Duration) string {
	if d < 5*time.Second {
		return l.T("ago.now")
	}
	return l.T("ago.ago", l.Span(d))
}

// Span is a length of time, in its largest unit.
func (l lang) Span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return l.T("unit.s", int(d.Seconds()))
	case d < 2*time.Hour:
		return l.T("unit.min", int(d.Minutes()))
	case d < 48*time.Hour:
		return l.T("unit.h", int(d.Hours()))
	}
	return l.N("unit.days", int(d.Hours()/24))
}

// Millis writes a time that a machine took.
func (l lang) Millis(ms float64) string {
	switch {
	case ms <= 0:
		return l.T("unit.ms", "< 1")
	case ms >= 1000:
		return l.T("unit.sec", l.Float(ms/1000, 2))
	case ms >= 10:
		return l.T("unit.ms", l.Float(ms, 0))
	}
	return l.T("unit.ms", l.Float(ms, 1))
}

// Bytes writes a size.
func (l lang) Bytes(n int64) string {
	switch {
	case n >= 1<<40:
		return l.Float(float64(n)/(1<<40), 1) + " TiB"
	case n >= 1<<30:
		return l.Float(float64(n)/(1<<30), 1) + " GiB"
	case n >= 1<<20:
		return l.Float(float64(n)/(1<<20), 1) + " MiB"
	case n >= 1<<10:
		return l.Float(float64(n)/(1<<10), 1) + " KiB"
	}
	return l.Int(n) + " B"
}
