package sidecar

import (
	"slices"
	"strings"
	"testing"
)

func TestLook_HeadersAsTheyCame(t *testing.T) {
	t.Parallel()
	v := Look([]byte("Subject: =?utf-8?q?B=C3=A4r?=\r\n folded\r\nno field\r\n\tgoes on\r\nX-Odd : \xff\nReceived: a\r\n\tby b;\r\n\t\r\n\r\nbody"), DefaultLimits())
	want := []HeaderField{
		{Name: "subject", Value: "Bär folded goes on", Raw: "Subject: =?utf-8?q?B=C3=A4r?=\r\n folded\r\n\tgoes on\r\n"},
		{Name: "x-odd", Value: "\uFFFD", Raw: "X-Odd : \uFFFD\n"},
		{Name: "received", Value: "a by b;", Raw: "Received: a\r\n\tby b;\r\n\t\r\n"},
	}
	if !slices.Equal(v.Headers, want) {
		t.Errorf("got  %q\nwant %q", v.Headers, want)
	}
}

// What is cut is said to be cut, in whatever charset it comes.
func TestLook_HugeIsCut(t *testing.T) {
	t.Parallel()
	wide := func(s string) string { return strings.Join(strings.Split(s, ""), "\x00") + "\x00" }
	for name, tt := range map[string]struct {
		mail string
		cut  bool
	}{
		"HTML of 5 MB":           {"Content-Type: text/html\r\n\r\n" + strings.Repeat("<p>x", 5<<20/4), true},
		"HTML of 900 KB":         {"Content-Type: text/html\r\n\r\n" + strings.Repeat("<p>x", 900<<10/4), false},
		"HTML of 5 MB in UTF-16": {"Content-Type: text/html; charset=utf-16le\r\n\r\n" + strings.Repeat(wide("<p>x"), 5<<20/8), true},
		"text of 600 KB":         {"\r\n" + strings.Repeat("word ", 600<<10/5), true},
		"a mail in UTF-7":        {"Content-Type: text/html; charset=utf-7\r\n\r\n+ADw-b+AD4-x", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := Look([]byte(tt.mail), DefaultLimits())
			if v.Truncated != tt.cut || len(v.HTML) > viewHTML || len(v.Text) > viewText || v.HTML+v.Text == "" {
				t.Errorf("cut %v, %d bytes of HTML, %d of text", v.Truncated, len(v.HTML), len(v.Text))
			}
			if name == "a mail in UTF-7" && v.HTML != "<b>x" {
				t.Errorf("%q", v.HTML)
			}
		})
	}
}
