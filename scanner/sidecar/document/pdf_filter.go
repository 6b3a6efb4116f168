package document

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"io"
)

// maxFilters bounds a chain of filters.
const maxFilters = 12

// filters names the filters of a stream, and their parameters.
func (p *pdf) filters(d pdfDict) (names []string, params []pdfDict) {
	list := func(keys ...string) pdfArray {
		for _, k := range keys {
			switch v := p.resolve(d[k]).(type) {
			case pdfArray:
				return v
			case nil:
			default:
				return pdfArray{v}
			}
		}
		return nil
	}
	parms := list("DecodeParms", "DP")
	for i, f := range list("Filter", "F") {
		n, ok := p.resolve(f).(pdfName)
		if !ok || i >= maxFilters {
			break
		}
		var q pdfDict
		if i < len(parms) {
			q, _ = p.resolve(parms[i]).(pdfDict)
		}
		names, params = append(names, string(n)), append(params, q)
	}
	return names, params
}

// decode undoes the filters of a stream, as far as they are known: that of a
// picture ends it (see undone).
func (p *pdf) decode(o *pdfObject) ([]byte, error) {
	b, rest, err := p.undone(o)
	if rest != "" {
		b = nil
	}
	return b, err
}

// undone is a stream up to a filter that is not known here, and the name of that.
func (p *pdf) undone(o *pdfObject) (b []byte, rest string, err error) {
	b = p.decrypted(o)
	names, params := p.filters(o.dict())
	for i, n := range names {
		switch n {
		case "FlateDecode", "Fl":
			b, err = p.inflate(b)
		case "LZWDecode", "LZW":
			early := 1
			if v, ok := params[i]["EarlyChange"].(float64); ok {
				early = int(v)
			}
			b = unLZW(b, early, p.r.left(maxStream))
			err = p.r.took(len(b))
		case "ASCIIHexDecode", "AHx":
			b, _, _ = bytes.Cut(b, []byte(">"))
			b = unhex(b)
			err = p.r.took(len(b))
		case "ASCII85Decode", "A85":
			b = un85(b)
			err = p.r.took(len(b))
		case "RunLengthDecode", "RL":
			b = unRunLength(b, p.r.left(maxStream))
			err = p.r.took(len(b))
		case "Crypt":
		default:
			return b, n, nil
		}
		if err != nil {
			return nil, "", err
		}
		b = predicted(b, params[i])
	}
	return b, "", nil
}

// inflate unpacks a zlib stream; also one without its head, and one that breaks
// off.
func (p *pdf) inflate(b []byte) ([]byte, error) {
	b = bytes.TrimLeft(b, "\r\n")
	if len(b) < 2 {
		return nil, nil
	}
	var from io.Reader
	if z, err := zlib.NewReader(bytes.NewReader(b)); err == nil {
		from = z
	} else if b[0]&0x0f == 8 {
		from = flate.NewReader(bytes.NewReader(b[2:]))
	} else {
		from = flate.NewReader(bytes.NewReader(b))
	}
	return p.r.unpack(from, maxStream)
}

// predicted undoes the PNG predictors (ISO 32000-1 §7.4.4.4).
func predicted(b []byte, q pdfDict) []byte {
	number := func(key string, otherwise int) int {
		if v, ok := q[key].(float64); ok && v >= 1 && v < 1<<16 {
			return int(v)
		}
		return otherwise
	}
	if number("Predictor", 1) < 10 {
		return b
	}
	bpp := max(1, number("Colors", 1)*number("BitsPerComponent", 8)/8)
	row := (number("Colors", 1)*number("BitsPerComponent", 8)*number("Columns", 1) + 7) / 8
	if row > 1<<20 {
		return b
	}
	out := make([]byte, 0, len(b))
	prev := make([]byte, row)
	for len(b) > 1 {
		kind := b[0]
		cur := append([]byte(nil), b[1:min(len(b), row+1)]...)
		b = b[1+len(cur):]
		for i := range cur {
			var left, upLeft byte
			if i >= bpp {
				left, upLeft = cur[i-bpp], prev[i-bpp]
			}
			switch kind {
			case 1:
				cur[i] += left
			case 2:
				cur[i] += prev[i]
			case 3:
				cur[i] += byte((int(left) + int(prev[i])) / 2)
			case 4:
				cur[i] += paeth(left, prev[i], upLeft)
			}
		}
		out = append(out, cur...)
		copy(prev, cur)
	}
	return out
}

func paeth(a, b, c byte) byte {
	p := int(a) + int(b) - int(c)
	dist := func(v byte) int { return max(p-int(v), int(v)-p) }
	switch da, db, dc := dist(a), dist(b), dist(c); {
	case da <= db && da <= dc:
		return a
	case db <= dc:
		return b
	}
	return c
}

// un85 reads ASCII85.
func un85(b []byte) []byte {
	out := make([]byte, 0, len(b)*4/5)
	var acc uint32
	n := 0
	for _, c := range b {
		switch {
		case c == '~':
			return append(out, rest85(acc, n)...)
		case c == 'z' && n == 0:
			out = append(out, 0, 0, 0, 0)
		case c >= '!' && c <= 'u':
			acc = acc*85 + uint32(c-'!')
			if n++; n == 5 {
				out = append(out, byte(acc>>24), byte(acc>>16), byte(acc>>8), byte(acc))
				acc, n = 0, 0
			}
		}
	}
	return append(out, rest85(acc, n)...)
}

func rest85(acc uint32, n int) []byte {
	if n < 2 {
		return nil
	}
	for i := n; i < 5; i++ {
		acc = acc*85 + 84
	}
	return []byte{byte(acc >> 24), byte(acc >> 16), byte(acc >> 8)}[:n-1]
}

func unRunLength(b []byte, most int) []byte {
	var out []byte
	for len(b) > 1 && b[0] != 128 && len(out) < most {
		n := int(b[0])
		if n < 128 {
			run := b[1:min(len(b), n+2)]
			out = append(out, run...)
			b = b[1+len(run):]
			continue
		}
		out = append(out, bytes.Repeat(b[1:2], 257-n)...)
		b = b[2:]
	}
	return out[:min(len(out), max(most, 0))]
}

// unLZW reads LZW as PDF has it (ISO 32000-1 §7.4.4): codes of 9 to 12 bits, the
// highest bit first, growing one code early.
func unLZW(b []byte, early, most int) []byte {
	type entry struct {
		prev int
		last byte
		size int
	}
	table := make([]entry, 258, 4097)
	for i := range 256 {
		table[i] = entry{-1, byte(i), 1}
	}
	var out []byte
	var acc, bits, width, prev = 0, 0, 9, -1
	for _, c := range b {
		acc, bits = acc<<8|int(c), bits+8
		for bits >= width {
			code := acc >> (bits - width) & (1<<width - 1)
			bits -= width
			acc &= 1<<bits - 1
			if code == 257 || len(out) > most {
				return out[:min(len(out), max(most, 0))]
			}
			if code == 256 {
				table, width, prev = table[:258], 9, -1
				continue
			}
			if code > len(table) || code == len(table) && prev < 0 {
				return out
			}
			at, size := code, 0
			if code == len(table) {
				size = table[prev].size + 1
				at = prev
			} else {
				size = table[code].size
			}
			start := len(out)
			out = append(out, make([]byte, size)...)
			for i, e := start+table[at].size-1, at; e >= 0 && i >= start; i, e = i-1, table[e].prev {
				out[i] = table[e].last
			}
			if code == len(table) {
				out[len(out)-1] = out[start]
			}
			if prev >= 0 && len(table) < 4096 {
				table = append(table, entry{prev, out[start], table[prev].size + 1})
			}
			prev = code
			for width < 12 && len(table)+early >= 1<<width {
				width++
			}
		}
	}
	return out
}
