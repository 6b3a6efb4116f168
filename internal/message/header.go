package message

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// Range is a piece of the mail, in bytes from its start.
type Range struct{ Offset, Length int64 }

// HeaderEdits finds the whole header fields that are not passed on: those that
// only we may write. That is Authentication-Results with our own name as
// authserv-id (RFC 8601 §5) and everything called X-Mailward-. The rest of the
// header is not ours to touch.
//
// A header that begins with a folded line would continue the last field that we
// put on top of it, which is one of ours: such lines go too.
func HeaderEdits(header []byte, authservID string) []Range {
	var out []Range
	ours := sameName(authservID)
	end := 0
	for f := range Fields(header) {
		start := end
		end += len(f)
		name, value, ok := bytes.Cut(f, []byte(":"))
		n := strings.ToLower(string(bytes.TrimRightFunc(name, blank)))
		switch {
		case start == 0 && (f[0] == ' ' || f[0] == '\t'):
		case ok && strings.HasPrefix(n, "x-mailward-"):
		case ok && n == "authentication-results" && ours(authserv(string(value))):
		default:
			continue
		}
		out = append(out, Range{int64(start), int64(len(f))})
	}
	return out
}

// sameName compares with a host name as a reader of the field would: without
// regard to case, to a final dot, or to U-labels and A-labels (RFC 8601 §5).
func sameName(name string) func(string) bool {
	canonical := func(s string) string {
		s = strings.ToLower(strings.TrimSuffix(strings.TrimFunc(s, blank), "."))
		if a, err := idna.Lookup.ToASCII(s); err == nil {
			return a
		}
		return s
	}
	name = canonical(name)
	return func(s string) bool { return canonical(s) == name }
}

// blank is what a lenient reader takes for white space: more than the RFC's four
// characters, as many languages trim control characters and Unicode's spaces.
func blank(r rune) bool { return r <= ' ' || r == 0x7f || unicode.IsSpace(r) }

// Fields are the header's fields one after the other without a gap, folded lines
// and line ends included. They end at the empty line, where the body starts.
func Fields(header []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(header) > 0 {
			end := 0
			for end == 0 || end < len(header) && (header[end] == ' ' || header[end] == '\t') {
				i := bytes.IndexByte(header[end:], '\n')
				if i < 0 {
					end = len(header)
					break
				}
				end += i + 1
			}
			f := header[:end]
			if len(bytes.TrimRight(f, "\r\n")) == 0 || !yield(f) {
				return
			}
			header = header[end:]
		}
	}
}

// authserv is the authserv-id of an Authentication-Results value: its first
// token, after comments and folding (RFC 8601 §2.2), also when quoted. What ends
// a token ends it here too, so that nothing behind it hides the name: a version,
// a comment, a result where the semicolon was forgotten.
func authserv(v string) string {
	v = skipComments(v)
	if strings.HasPrefix(v, `"`) {
		var b strings.Builder
		for i := 1; i < len(v) && v[i] != '"'; i++ {
			if v[i] == '\\' && i+1 < len(v) {
				i++
			}
			if v[i] >= ' ' && v[i] != 0x7f { // folding inside the quotes (RFC 5322 §3.2.4)
				b.WriteByte(v[i])
			}
		}
		return b.String()
	}
	if i := strings.IndexFunc(v, func(r rune) bool { return blank(r) || strings.ContainsRune(`;,(=/"`, r) }); i >= 0 {
		v = v[:i]
	}
	return v
}

// skipComments drops leading white space and (nested) comments.
func skipComments(v string) string {
	for {
		v = strings.TrimLeftFunc(v, blank)
		if !strings.HasPrefix(v, "(") {
			return v
		}
		depth, i := 0, 0
		for ; i < len(v); i++ {
			switch v[i] {
			case '\\':
				i++
			case '(':
				depth++
			case ')':
				depth--
			}
			if depth == 0 {
				break
			}
		}
		if i >= len(v) {
			return ""
		}
		v = v[i+1:]
	}
}

// Without reads r with the ranges left out. They must be in order and not overlap.
func Without(r io.ReaderAt, size int64, skip []Range) io.Reader {
	var parts []io.Reader
	var at int64
	for _, s := range skip {
		if s.Offset > at {
			parts = append(parts, io.NewSectionReader(r, at, s.Offset-at))
		}
		at = s.Offset + s.Length
	}
	parts = append(parts, io.NewSectionReader(r, at, size-at))
	return io.MultiReader(parts...)
}

// ErrRanges means that stored header edits do not fit the mail.
var ErrRanges = errors.New("message: header edits do not fit the mail")

// WithoutStream is [Without] for a mail that can only be read once from the start.
func WithoutStream(r io.Reader, skip []Range) io.Reader {
	return &skipper{r: r, skip: skip}
}

type skipper struct {
	r    io.Reader
	at   int64
	skip []Range
}

func (s *skipper) Read(p []byte) (int, error) {
	for len(s.skip) > 0 && s.at == s.skip[0].Offset {
		n, err := io.CopyN(io.Discard, s.r, s.skip[0].Length)
		s.at += n
		if err != nil {
			return 0, errors.Join(ErrRanges, err)
		}
		s.skip = s.skip[1:]
	}
	if len(s.skip) > 0 {
		if s.skip[0].Offset < s.at {
			return 0, ErrRanges
		}
		p = p[:min(int64(len(p)), s.skip[0].Offset-s.at)]
	}
	n, err := s.r.Read(p)
	s.at += int64(n)
	return n, err
}
