package sidecar

import (
	"bytes"
	"regexp"
)

// uuPart is a file that stands in text, where mail clients show it as an
// attachment: uuencode, its base64 kin, or yEnc.
type uuPart struct {
	name string
	data []byte
}

const (
	uuMost = 100 // files that are looked for in one text
	uuName = 200 // bytes that are kept of a name: its end, which says what it is
)

var (
	uuBegin = regexp.MustCompile(`(?m)^begin(-base64)? +[0-7]{3,4} +([^\r\n]+)\r?$`)
	yBegin  = regexp.MustCompile(`(?m)^=ybegin [^\r\n]*name=([^\r\n]+)\r?$`)
)

// uuParts finds the files in text, at most uuMost and one, in time that grows
// with the text alone.
func uuParts(data []byte) (out []uuPart) {
	uu, y := beginLines(data)
	if uu {
		out = filesIn(data, uuBegin, 2, uuFile)
	}
	if y {
		out = append(out, filesIn(data, yBegin, 1, yFile)...)
	}
	return out[:min(len(out), uuMost+1)]
}

// beginLines says whether a line of data begins as one of the patterns has it,
// which go through all of it at a hundred times the cost.
func beginLines(data []byte) (uu, y bool) {
	for len(data) > 0 {
		switch data[0] {
		case 'b':
			uu = uu || bytes.HasPrefix(data, []byte("begin"))
		case '=':
			y = y || bytes.HasPrefix(data, []byte("=ybegin "))
		}
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			break
		}
		data = data[i+1:]
	}
	return uu, y
}

// filesIn decodes what follows each first line; read returns the file and how
// many bytes it took.
func filesIn(data []byte, begin *regexp.Regexp, name int, read func(first, body []byte) ([]byte, int)) (out []uuPart) {
	for len(out) <= uuMost {
		m := begin.FindSubmatchIndex(data)
		if m == nil {
			return out
		}
		body := data[min(m[1]+1, len(data)):]
		b, n := read(data[m[0]:m[1]], body)
		if len(b) > 0 {
			n := bytes.TrimSpace(data[m[2*name]:m[2*name+1]])
			out = append(out, uuPart{name: string(n[max(0, len(n)-uuName):]), data: b})
		}
		data = body[n:]
	}
	return out
}

func uuFile(first, body []byte) (b []byte, used int) {
	base64 := bytes.HasPrefix(first, []byte("begin-base64"))
	for line := range bytes.Lines(body) {
		l := bytes.TrimRight(line, "\r\n")
		if base64 {
			if bytes.HasPrefix(l, []byte("====")) || len(l) == 0 {
				break
			}
			used += len(line)
			continue
		}
		if len(l) == 0 || bytes.Equal(l, []byte("end")) || l[0] < 0x20 || l[0] > 0x60 || (l[0]-0x20)&0x3f == 0 {
			break
		}
		b = append(b, uuLine(l[1:], int(l[0]-0x20)&0x3f)...)
		used += len(line)
	}
	if base64 {
		b, _ = decodeCTE("base64", body[:used])
	}
	return b, used
}

func uuLine(s []byte, n int) []byte {
	out := make([]byte, 0, n+3)
	for i := 0; i < len(s) && len(out) < n; i += 4 {
		var q [4]byte
		for j := range q {
			if i+j < len(s) {
				q[j] = (s[i+j] - 0x20) & 0x3f
			}
		}
		out = append(out, q[0]<<2|q[1]>>4, q[1]<<4|q[2]>>2, q[2]<<6|q[3])
	}
	return out[:min(n, len(out))]
}

// yFile decodes yEnc up to its last line.
func yFile(_, body []byte) (b []byte, used int) {
	for line := range bytes.Lines(body) {
		if bytes.HasPrefix(line, []byte("=yend")) {
			break
		}
		used += len(line)
		if bytes.HasPrefix(line, []byte("=ypart ")) {
			continue
		}
		l := bytes.TrimRight(line, "\r\n")
		for i := 0; i < len(l); i++ {
			c := l[i]
			if c == '=' && i+1 < len(l) {
				i++
				c = l[i] - 64
			}
			b = append(b, c-42)
		}
	}
	return b, used
}
