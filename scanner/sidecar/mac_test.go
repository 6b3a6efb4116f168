package sidecar

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"mailward/policy"
)

// binhex is a BinHex file as a Mac makes it, with runs.
func binhex(name, data string) string {
	be := binary.BigEndian
	sum := func(b []byte) []byte { return be.AppendUint16(b, crcXModem(b)) }
	head := append([]byte{byte(len(name))}, name...)
	head = append(head, "\x00TEXTttxt\x00\x00"...)
	head = be.AppendUint32(be.AppendUint32(head, uint32(len(data))), 0)
	raw := slices.Concat(sum(head), sum([]byte(data)), []byte{0, 0})
	var packed []byte
	for i := 0; i < len(raw); {
		n := 1
		for i+n < len(raw) && raw[i+n] == raw[i] && n < 255 {
			n++
		}
		packed = append(packed, raw[i])
		if raw[i] == binhexRepeat {
			packed, n = append(packed, 0), 1
		} else if n > 3 {
			packed = append(packed, binhexRepeat, byte(n))
		} else {
			n = 1
		}
		i += n
	}
	for len(packed)%3 != 0 {
		packed = append(packed, 0)
	}
	var b strings.Builder
	b.WriteString("(This file must be converted with BinHex 4.0)\r\n\r\n:")
	for i := 0; i < len(packed); i += 3 {
		n := uint(packed[i])<<16 | uint(packed[i+1])<<8 | uint(packed[i+2])
		for s := 18; s >= 0; s -= 6 {
			b.WriteByte(binhexLetters[n>>s&63])
		}
		if i%48 == 45 {
			b.WriteString("\r\n")
		}
	}
	return b.String() + ":\r\n"
}

// macBinary is a MacBinary file of the first version, or of the second.
func macBinary(second bool, name, data string) []byte {
	b := make([]byte, macHead, macHead+macPadded(int64(len(data))))
	b[1] = byte(len(name))
	copy(b[2:], name)
	binary.BigEndian.PutUint32(b[83:], uint32(len(data)))
	if second {
		b[122], b[123] = 129, 129
		binary.BigEndian.PutUint16(b[124:], crcXModem(b[:124]))
	}
	return append(b, data...)[:cap(b)]
}

// appleSingle is one with a name and one fork.
func appleSingle(magic uint32, fork uint32, name, data string) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(be.AppendUint32(nil, magic), 0x20000)
	b = append(b, make([]byte, 16)...)
	b = be.AppendUint16(b, 2)
	for _, v := range []uint32{3, 50, uint32(len(name)), fork, 50 + uint32(len(name)), uint32(len(data))} {
		b = be.AppendUint32(b, v)
	}
	return append(append(b, name...), data...)
}

// TestMac: the name inside counts, a text about BinHex is none, and what is cut
// off is told.
func TestMac(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		mail string
		want policy.Class
	}{
		"BinHex, name inside":      {string(attached("a.hqx", []byte(binhex("x.bad", "hello")))), policy.Malware},
		"BinHex, harmless":         {string(attached("a.hqx", []byte(binhex("x.txt", "hello"+strings.Repeat("\x90", 9))))), ""},
		"BinHex, cut":              {string(attached("a.hqx", []byte(binhex("x.txt", strings.Repeat("hello", 99))[:300]))), policy.Unscannable},
		"a text about BinHex":      {mailTop + "\r\n(This file must be converted with BinHex 4.0) is its first line: so it is.\r\n", ""},
		"MacBinary, name inside":   {string(attached("a.bin", macBinary(true, "x.bad", "hello"))), policy.Malware},
		"MacBinary, harmless":      {string(attached("a.bin", macBinary(true, "x.txt", "hello"))), ""},
		"MacBinary, cut":           {string(attached("a.bin", macBinary(true, "x.txt", strings.Repeat("hello", 99))[:300])), policy.Unscannable},
		"AppleDouble, as sent":     {string(attached("a.txt", appleSingle(0x51607, 2, "x.txt", "icons"))), ""},
		"AppleSingle, cut":         {string(attached("a.txt", appleSingle(0x51600, 1, "x.txt", "hello")[:56])), policy.Unscannable},
		"zeros are not a Mac file": {string(attached("a.bin", make([]byte, 300))), ""},
	} {
		r := scanMail(t, []byte(tt.mail))
		got := classes(r)
		if tt.want == "" && len(got) > 0 || tt.want != "" && !slices.Contains(got, tt.want) {
			t.Errorf("%s: %v %+v", name, got, r.Findings)
		}
	}
}
