package dlp

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// normalise undoes what a word processor or somebody with something to hide
// does to a number: special spaces and dashes, wide digits, characters that
// nobody sees. Text without any, the usual case, is returned as it is.
func normalise(s string) string {
	for i := range len(s) {
		switch s[i] {
		case 0xC2, 0xE2, 0xE3, 0xEF, 0xF0: // all that plainRune changes begin with these
			return strings.Map(plainRune, s)
		}
	}
	return s
}

func plainRune(r rune) rune {
	switch {
	case r < utf8.RuneSelf:
		return r
	case r == 0xA0, r >= 0x2000 && r <= 0x200A, r == 0x202F, r == 0x205F, r == 0x3000:
		return ' '
	case r == 0xAD, r >= 0x200B && r <= 0x200F, r >= 0x2060 && r <= 0x2064, r == 0xFEFF:
		return -1
	case r >= 0x2010 && r <= 0x2015, r == 0x2212, r == 0xFE58, r == 0xFE63:
		return '-'
	case r >= 0xFF01 && r <= 0xFF5E: // full width forms of ASCII
		return r - 0xFEE0
	case r >= 0x1D7CE && r <= 0x1D7FF: // digits of mathematics
		return '0' + (r-0x1D7CE)%10
	}
	return r
}

// Classes of bytes. What is no ASCII counts as a letter: no number begins
// within a word.
const (
	other byte = iota
	letter
	digit
)

var byteClass = classes()

func classes() (t [256]byte) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9':
			t[c] = digit
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= utf8.RuneSelf:
			t[c] = letter
		}
	}
	return t
}

// word is a run of letters and digits: the hash of its folded form, and where
// it stands.
type word struct {
	hash       uint64
	start, end int
}

// FNV-1a, 64 bits. Hashes are kept in the database, so they never change.
const (
	hashOffset uint64 = 14695981039346656037
	hashPrime  uint64 = 1099511628211
)

// words splits normalised text. Upper and lower case are one, and so are ä and
// ae, ö and oe, ü and ue, ß and ss, composed or not.
func words(s string) []word {
	list := make([]word, 0, len(s)/6+1)
	var vowel byte // the last byte, where a combining diaeresis may follow
	at, h := -1, hashOffset
	for i := 0; i < len(s); {
		c, size := s[i], 1
		switch {
		case byteClass[c] == other:
			if at >= 0 {
				list, at, h = append(list, word{h, at, i}), -1, hashOffset
			}
		case c < utf8.RuneSelf:
			if at < 0 {
				at = i
			}
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			h, vowel = (h^uint64(c))*hashPrime, c
		default:
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.Is(unicode.Mn, r) {
				if at >= 0 {
					list, at, h = append(list, word{h, at, i}), -1, hashOffset
				}
				break
			}
			if at < 0 {
				at, vowel = i, 0
			}
			var buf [utf8.UTFMax]byte
			for _, b := range foldRune(buf[:0], r, vowel) {
				h = (h ^ uint64(b)) * hashPrime
			}
			vowel = 0
		}
		i += size
	}
	if at >= 0 {
		list = append(list, word{h, at, len(s)})
	}
	return list
}

// foldRune appends the folded form of a rune that is no ASCII; before is the
// ASCII letter in front of it.
func foldRune(dst []byte, r rune, before byte) []byte {
	switch r = unicode.ToLower(r); r {
	case 'ä':
		return append(dst, "ae"...)
	case 'ö':
		return append(dst, "oe"...)
	case 'ü':
		return append(dst, "ue"...)
	case 'ß', 'ẞ':
		return append(dst, "ss"...)
	case 0x308: // combining diaeresis
		if before == 'a' || before == 'o' || before == 'u' {
			return append(dst, 'e')
		}
		return dst
	}
	if unicode.Is(unicode.Mn, r) {
		return dst
	}
	return utf8.AppendRune(dst, r)
}

// fold is the folded form of a short text, for context words.
func fold(s string) string {
	dst := make([]byte, 0, len(s)+8)
	var before byte
	for _, r := range s {
		if r < utf8.RuneSelf {
			before = byte(unicode.ToLower(r))
			dst = append(dst, before)
			continue
		}
		dst, before = foldRune(dst, r, before), 0
	}
	return string(dst)
}
