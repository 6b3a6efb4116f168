package message

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Xtext writes a value as a parameter of a command (RFC 3461 §4).
func Xtext(v string) string {
	var b strings.Builder
	for i := range len(v) {
		if c := v[i]; c <= ' ' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// FromXtext reads what [Xtext] writes, and nothing else: ok is false for what RFC
// 3461 §4 does not allow.
func FromXtext(s string) (v string, ok bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c < '!', c > '~', c == '=':
			return "", false
		case c == '+':
			two := s[i+1 : min(i+3, len(s))]
			d, err := hex.DecodeString(two)
			if err != nil || len(d) != 1 || strings.ToUpper(two) != two {
				return "", false
			}
			c, i = d[0], i+2
		}
		b = append(b, c)
	}
	return string(b), true
}
