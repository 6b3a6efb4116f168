package main

import (
	"bytes"
	"compress/flate"
	"io"
	"testing"
)

func packed(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestInflate(t *testing.T) {
	t.Parallel()
	inflate, err := newInflate()
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("All of it, and nothing else. "), 1000)
	src := packed(t, data)
	for name, tt := range map[string]struct {
		src  []byte
		size int
		ok   bool
	}{
		"whole":         {src, len(data), true},
		"room to spare": {src, len(data) + 1, false},
		"no room":       {src, len(data) - 1, false},
		"cut short":     {src[:len(src)-1], len(data), false},
		"bytes behind":  {append(bytes.Clone(src), 0), len(data), false},
		"not a stream":  {[]byte{0xff, 0xff, 0xff}, 10, false},
		"no source":     {nil, 10, false},
		"no target":     {src, 0, false},
	} {
		dst := make([]byte, tt.size)
		if ok := inflate(dst, tt.src); ok != tt.ok || ok && !bytes.Equal(dst, data) {
			t.Errorf("%s: %v", name, ok)
		}
	}
}

// FuzzInflate: what libdeflate takes, Go's reader takes, and reads the same.
func FuzzInflate(f *testing.F) {
	inflate, err := newInflate()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed(f, []byte("hello, hello, hello")), uint16(19))
	f.Add([]byte{1, 0, 0, 0xff, 0xff}, uint16(0))
	f.Fuzz(func(t *testing.T, src []byte, size uint16) {
		dst := make([]byte, size)
		if !inflate(dst, src) {
			return
		}
		from := bytes.NewReader(src)
		got, err := io.ReadAll(flate.NewReader(from))
		if err != nil || from.Len() > 0 || !bytes.Equal(got, dst) {
			t.Errorf("libdeflate read %d bytes; Go %d, left %d, error %v", len(dst), len(got), from.Len(), err)
		}
	})
}
