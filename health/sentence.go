package health

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailward/internal/wording"
)

// Line is one or two sentences: their name, and its arguments. With them it can be
// said in each language that people read.
type Line struct {
	ID   string   `json:"id,omitempty"` // empty: the argument is all there is, in whatever language
	Args []string `json:"args,omitempty"`
}

// Text is what the state of a component means for mail now, and what to do.
type Text []Line

// sentence is what a line says, in every language.
type sentence struct{ en, de string }

// Words names a thing of a kind in a language: title, word, n, span, bytes, ms,
// time, day, list.
type Words func(kind, value string) string

// Plain is a text that is there in one language only.
func Plain(s string) Text {
	if s == "" {
		return nil
	}
	return Text{{Args: []string{plain(s)}}}
}

func say(id string, args ...string) Text { return Text{{ID: id, Args: args}} }

// and is the text with one line more.
func (t Text) and(id string, args ...string) Text { return t.with(say(id, args...)) }

// with is the text with another behind it. Texts are shared, so none is changed.
func (t Text) with(more Text) Text {
	return append(append(make(Text, 0, len(t)+len(more)), t...), more...)
}

// String is the text in English: what the API, the log and the record have.
func (t Text) String() string {
	s, _ := t.In("en", english)
	return s
}

// In is the text in a language: "de", or English for every other. It is not ok where
// a line has a name that this version does not know, or other arguments: then what
// was kept of it in English is all there is.
func (t Text) In(lang string, word Words) (text string, ok bool) {
	parts := make([]string, 0, len(t))
	for _, l := range t {
		s := sentence{"%s", "%s"}
		if l.ID != "" {
			if s, ok = sentenceOf(l.ID); !ok {
				return "", false
			}
		}
		format := s.en
		if lang == "de" {
			format = s.de
		}
		said, ok := wording.Fill(format, l.Args, word)
		if !ok {
			return "", false
		}
		parts = append(parts, said)
	}
	return strings.Join(parts, " "), len(t) > 0
}

func sentenceOf(id string) (s sentence, ok bool) {
	if s, ok = sentences[id]; !ok {
		s, ok = moreSentences[id]
	}
	return s, ok
}

// Arguments of a line: their kind, a colon, their value. What has no kind is shown
// as it is.
func plain(s string) string         { return ":" + s }
func noun(name string) string       { return "word:" + name }
func num[T int | int64](n T) string { return "n:" + strconv.FormatInt(int64(n), 10) }
func span(d time.Duration) string   { return "span:" + d.String() }
func amount(n uint64) string        { return "bytes:" + strconv.FormatUint(n, 10) }
func millis(d time.Duration) string { return "ms:" + strconv.FormatInt(d.Milliseconds(), 10) }
func moment(t time.Time) string     { return "time:" + t.UTC().Format(time.RFC3339) }
func day(t time.Time) string        { return "day:" + t.UTC().Format(time.DateOnly) }

// titled names a component, whose title is English, by its name.
func titled(name, title string) string { return "title:" + name + "\t" + title }

func (c Component) titled() string { return titled(c.Name, c.Title) }

// TitleArg takes an argument of the kind title apart.
func TitleArg(value string) (name, title string) {
	name, title, _ = strings.Cut(value, "\t")
	return name, title
}

// several names up to so many things of a list.
func several(list []string, limit int) string {
	shown := list[:min(len(list), limit)]
	b, _ := json.Marshal(shown) // strings only: cannot fail
	return "list:" + strconv.Itoa(len(list)-len(shown)) + ":" + string(b)
}

// ListArg takes an argument of the kind list apart: what is named, and how many more
// there are.
func ListArg(value string) (named []string, more int) {
	count, raw, _ := strings.Cut(value, ":")
	more, _ = strconv.Atoi(count)
	if json.Unmarshal([]byte(raw), &named) != nil {
		return []string{raw}, more
	}
	return named, more
}

// Noun is what a noun of a sentence is called in a language.
func Noun(lang, name string) string {
	w, ok := nouns[name]
	switch {
	case !ok:
		return name
	case lang == "de":
		return w.de
	}
	return w.en
}

// english names things as the API and the log have them: times in UTC.
func english(kind, value string) string {
	switch kind {
	case "title":
		_, title := TitleArg(value)
		return title
	case "word":
		return Noun("en", value)
	case "span":
		if d, err := time.ParseDuration(value); err == nil {
			return seconds(d)
		}
	case "bytes":
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			return size(n)
		}
	case "ms":
		return value + " ms"
	case "time":
		if t, err := time.Parse(time.RFC3339, value); err == nil {
			return t.UTC().Format("2006-01-02 15:04")
		}
	case "list":
		named, more := ListArg(value)
		if text := strings.Join(named, "; "); more > 0 {
			return fmt.Sprintf("%s; and %d more", text, more)
		}
		return strings.Join(named, "; ")
	}
	return value
}
