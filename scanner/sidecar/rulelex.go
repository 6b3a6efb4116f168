package sidecar

import (
	"fmt"
	"slices"
	"strings"
)

// modules are those that a managed set may import. The others read what is not
// there (cuckoo: a report of a sandbox), pull in one more parser (magic), or
// write (console).
var modules = []string{"dex", "dotnet", "elf", "hash", "macho", "math", "pe", "string", "time"}

// Outline is what a set's text says before it is compiled.
type Outline struct {
	Lines  map[string]int // of each rule
	Issues []Issue        // what is refused, or odd
}

// ReadOutline finds the rules of a set, and what a set may not do: read other
// files, and use modules that are not for mail.
func ReadOutline(source string) Outline {
	o := Outline{Lines: map[string]int{}}
	if i := strings.IndexByte(source, 0); i >= 0 {
		o.Issues = append(o.Issues, Issue{Error: true, Line: 1 + strings.Count(source[:i], "\n"), Text: "there is a NUL byte: this is no text"})
	}
	for i, c := range source {
		if c >= 0x202A && c <= 0x202E || c >= 0x2066 && c <= 0x2069 {
			o.Issues = append(o.Issues, Issue{Line: 1 + strings.Count(source[:i], "\n"), Text: fmt.Sprintf("there is a character (U+%04X) that shows text in another order than it is", c)})
			break
		}
	}
	l := &ruleLexer{src: source, line: 1}
	word := ""
	for len(o.Issues) < maxIssues {
		t := l.next()
		switch {
		case t.kind == tokenEnd:
			return o
		case t.kind == tokenText && word == "import":
			if !slices.Contains(modules, t.text) {
				o.Issues = append(o.Issues, Issue{Error: true, Line: t.line, Text: fmt.Sprintf("the module %q is not allowed; allowed are %s", cutText(t.text, 40), strings.Join(modules, ", "))})
			}
		case t.kind == tokenText && word == "include":
			o.Issues = append(o.Issues, Issue{Error: true, Line: t.line, Text: "include is not allowed: a set is one file"})
		case t.kind == tokenWord && word == "rule" && len(o.Lines) < maxListed:
			if _, ok := o.Lines[t.text]; !ok {
				o.Lines[t.text] = t.line
			}
		}
		word = ""
		if t.kind == tokenWord {
			word = t.text
		}
	}
	return o
}

func cutText(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenText // between quotes
	tokenOther
)

type ruleToken struct {
	kind tokenKind
	text string
	line int
}

// ruleLexer cuts rules into tokens, as far as [ReadOutline] needs it: comments,
// texts and regular expressions are known for what they are.
type ruleLexer struct {
	src  string
	pos  int
	line int
}

func (l *ruleLexer) next() ruleToken {
	l.skip()
	t := ruleToken{line: l.line}
	if l.pos >= len(l.src) {
		return t
	}
	switch c := l.src[l.pos]; {
	case c == '"':
		t.kind, t.text = tokenText, l.until('"')
	case c == '/':
		t.kind, t.text = tokenOther, l.until('/')
	case isRuleByte(c):
		start := l.pos
		for l.pos < len(l.src) && isRuleByte(l.src[l.pos]) {
			l.pos++
		}
		t.kind, t.text = tokenWord, l.src[start:l.pos]
	default:
		t.kind = tokenOther
		l.pos++
	}
	return t
}

// isRuleByte says whether c is part of a word. $a, #a, @a and !a are words of
// their own, so that $import is none of ours.
func isRuleByte(c byte) bool {
	return c == '_' || c == '$' || c == '#' || c == '@' || c == '!' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// until reads what stands between two marks of one kind, on one line. A
// backslash takes the meaning from what follows it.
func (l *ruleLexer) until(mark byte) string {
	l.pos++
	start := l.pos
	for l.pos < len(l.src) && l.src[l.pos] != '\n' {
		switch l.src[l.pos] {
		case mark:
			l.pos++
			return l.src[start : l.pos-1]
		case '\\':
			if l.pos+1 < len(l.src) && l.src[l.pos+1] != '\n' {
				l.pos++
			}
		}
		l.pos++
	}
	return l.src[start:l.pos]
}

// skip passes over space and comments.
func (l *ruleLexer) skip() {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch {
		case rest[0] == '\n':
			l.line++
			l.pos++
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			l.pos++
		case strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			l.pos += n
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				n = len(rest) - 4
			}
			n = max(n, 0)
			end := min(n+4, len(rest))
			l.line += strings.Count(rest[:end], "\n")
			l.pos += end
		default:
			return
		}
	}
}
