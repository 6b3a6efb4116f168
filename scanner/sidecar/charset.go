package sidecar

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"unicode/utf16"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding/unicode/utf32"
)

// readMost bounds such text, in bytes.
const readMost = 32 << 20

// readable is text in a charset whose bytes do not show what a reader sees, as
// UTF-8, for the rules; false: the bytes show it.
func readable(data []byte, label string) ([]byte, bool) {
	label = strings.ToLower(strings.TrimSpace(label))
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(data, []byte{0, 0, 0xfe, 0xff}), strings.HasPrefix(label, "utf-32"):
		out, err := utf32.UTF32(utf32.BigEndian, utf32.UseBOM).NewDecoder().Bytes(data[:min(len(data), readMost)])
		return out, err == nil
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		return []byte(convert(data, "utf-16le", readMost)), true
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}), label == "utf-16":
		return []byte(convert(data, "utf-16be", readMost)), true
	case strings.HasPrefix(label, "utf-16"), strings.HasPrefix(label, "ucs-2"), strings.HasPrefix(label, "iso-2022-"), strings.HasPrefix(label, "unicode"):
		return []byte(convert(data, label, readMost)), true
	case isUTF7(label):
		return decodeUTF7(data), true
	}
	return nil, false
}

func isUTF7(label string) bool {
	label = strings.ToLower(label)
	return strings.Contains(label, "utf-7") || strings.Contains(label, "utf7")
}

// decodeUTF7 undoes RFC 2152; what does not decode stays as it is.
func decodeUTF7(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for {
		i := bytes.IndexByte(data, '+')
		if i < 0 {
			return append(out, data...)
		}
		out, data = append(out, data[:i]...), data[i+1:]
		n := 0
		for n < len(data) && base64Table[data[n]] >= 0 {
			n++
		}
		raw, err := base64.RawStdEncoding.DecodeString(string(data[:n]))
		if n == 0 || err != nil {
			out = append(out, '+')
			if n == 0 && len(data) > 0 && data[0] == '-' {
				data = data[1:]
			}
			continue
		}
		units := make([]uint16, len(raw)/2)
		for j := range units {
			units[j] = uint16(raw[2*j])<<8 | uint16(raw[2*j+1])
		}
		out = append(out, string(utf16.Decode(units))...)
		if data = data[n:]; len(data) > 0 && data[0] == '-' {
			data = data[1:]
		}
	}
}

// convert is text in a charset as UTF-8, up to limit bytes.
func convert(b []byte, label string, limit int) string {
	if r, err := charset.NewReaderLabel(label, bytes.NewReader(b)); err == nil {
		if out, err := io.ReadAll(io.LimitReader(r, int64(limit))); err == nil {
			return strings.ToValidUTF8(string(out), "\uFFFD")
		}
	}
	return strings.ToValidUTF8(string(b[:min(len(b), limit)]), "\uFFFD")
}
