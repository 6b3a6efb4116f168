package sidecar

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// lines breaks base64 as mail programs do.
func lines(s string, width int, end string) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + end)
		s = s[width:]
	}
	return b.String() + s + end
}

func TestDecodeLines(t *testing.T) {
	t.Parallel()
	source := rand.NewChaCha8([32]byte{7})
	for size := range 200 {
		raw := make([]byte, size*size)
		source.Read(raw)
		text := base64.StdEncoding.EncodeToString(raw)
		for _, in := range []string{lines(text, 76, "\r\n"), lines(text, 57, "\n"), lines(text, 1000, "\r\n\r\n"), text, lines(text, 76, "\r\r\n")} {
			out := make([]byte, base64.StdEncoding.DecodedLen(len(in)))
			if n, err := DecodeLines(out, []byte(in)); err != nil || !bytes.Equal(out[:n], raw) {
				t.Fatalf("%d bytes in %d of base64: %d bytes, %v", len(raw), len(in), n, err)
			}
		}
	}
	// The usual lines take the quick way, over the ends of steps too.
	in := []byte(lines(strings.Repeat("QUJD", 30_000), 76, "\r\n"))
	if n, err := decodeSteps(make([]byte, len(in)), in); err != nil || n != 90_000 {
		t.Errorf("the quick way: %d bytes, %v", n, err)
	}
	long := strings.Repeat("QUJD", base64Step/4-1)
	for _, bad := range []string{"QUJD=", "QQ==QUJD", "QUJ", "QU\x00D", long + "QQ==" + long, long + "QQ==\r\n" + long, lines(long, 76, " \r\n")} {
		out := make([]byte, base64.StdEncoding.DecodedLen(len(bad)))
		if n, err := DecodeLines(out, []byte(bad)); err == nil {
			t.Errorf("%.20q... is read as %d bytes", bad, n)
		}
	}
}

// FuzzDecodeLines holds the quick way against the standard library.
func FuzzDecodeLines(f *testing.F) {
	f.Add([]byte("QUJD\r\nQQ==\r\n"), uint16(3))
	f.Add([]byte("QUJD\nQQ=="), uint16(base64Step/4))
	f.Add([]byte("\r\n\r\nQ\rU\nJD"), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, times uint16) {
		in := slices.Concat(bytes.Repeat([]byte("QUJD"), int(times)), data)
		quick := bytes.Repeat([]byte{0xee}, base64.StdEncoding.DecodedLen(len(in))+64)
		n, err := decodeSteps(quick[:len(quick)-64:len(quick)-64], in)
		if !bytes.Equal(quick[len(quick)-64:], bytes.Repeat([]byte{0xee}, 64)) {
			t.Fatalf("%q writes beyond its room", in)
		}
		if err != nil {
			return
		}
		want := make([]byte, base64.StdEncoding.DecodedLen(len(in)))
		m, err := base64.StdEncoding.Decode(want, in)
		if err != nil || !bytes.Equal(quick[:n], want[:m]) {
			t.Errorf("%q is %q, and to the standard library %q, %v", in, quick[:n], want[:m], err)
		}
	})
}
