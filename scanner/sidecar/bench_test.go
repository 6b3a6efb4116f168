package sidecar

import (
	"bytes"
	"fmt"
	"testing"
)

// BenchmarkScan is the cost of taking an ordinary mail apart, without rules.
func BenchmarkScan(b *testing.B) {
	text := bytes.Repeat([]byte("<p>Dear Sir or Madam, please find the minutes attached =3D as agreed.</p>\r\n"), 120)
	for name, mail := range map[string][]byte{
		"text":       fmt.Appendf(nil, "From: a@b.example\r\nTo: c@d.example\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"=_x\"\r\n\r\n--=_x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%s\r\n--=_x\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%s\r\n--=_x--\r\n", text, text),
		"attachment": attached("minutes.pdf", append([]byte("%PDF-1.7\n"), junk(9, 200<<10)...)),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(mail)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(mail); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
