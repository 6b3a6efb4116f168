package hop

import (
	"fmt"
	"strings"
)

// Reply is what a hop said. Its text was made harmless.
type Reply struct {
	Code     int
	Enhanced string // "5.1.1", or ""
	Text     string
	Ours     bool // we know without asking that it would be refused so
}

// Error implements error: a reply that is a refusal.
func (r *Reply) Error() string {
	if r.Ours {
		return fmt.Sprintf("not sent: %d %s %s", r.Code, r.Enhanced, r.Text)
	}
	return fmt.Sprintf("next hop replied %d %s %s", r.Code, r.Enhanced, r.Text)
}

// Temporary says whether another try may go better.
func (r *Reply) Temporary() bool { return r.Code/100 != 5 && r.Code/100 != 2 }

// newReply takes the enhanced code (RFC 2034) off the text.
func newReply(code int, lines []string) Reply {
	h := Reply{Code: code}
	for i, l := range lines {
		first, rest, _ := strings.Cut(l, " ")
		var a, b, c int
		if n, _ := fmt.Sscanf(first, "%d.%d.%d", &a, &b, &c); n == 3 && a == code/100 {
			h.Enhanced, lines[i] = first, rest
		}
	}
	h.Text = Harmless(strings.Join(lines, " "), 200)
	return h
}

// Line is the reply without its code, as it is kept: "4.1.1 not here".
func (r *Reply) Line() string { return strings.TrimSpace(r.Enhanced + " " + r.Text) }

// ReadReply makes a reply of what was kept of one.
func ReadReply(code int, line string) Reply { return newReply(code, []string{line}) }

// Harmless makes foreign text fit for one line of a reply, a header or a log.
func Harmless(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = s[:limit]
	}
	return s
}
