package sidecar

import (
	"net/mail"
	"testing"
)

// Nothing that an encoded word holds becomes the address of an author: entries
// for senders look at the decoded field.
func TestDecodeAddresses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"A <a@example.org>":                                                        "A <a@example.org>",
		"=?utf-8?q?J=C3=BCrgen?= <a@example.org>":                                  "Jürgen <a@example.org>",
		"=?utf-8?q?J=C3=BC?= =?utf-8?q?rgen?= <a@example.org>":                     "Jürgen <a@example.org>",
		"=?utf-8?q?Doe=2C_J=2E?= <a@example.org>":                                  `"Doe, J." <a@example.org>`,
		`"=?utf-8?q?Doe=2C_=22J=22?=" <a@example.org>`:                             `"Doe, \"J\"" <a@example.org>`,
		"=?utf-8?q?boss=40example.org_=28?= <a@example.org> =?utf-8?q?=29?=":       `"boss@example.org (" <a@example.org> ")"`,
		"=?utf-8?q?boss=40example.org=2C?= <a@example.org>":                        `"boss@example.org," <a@example.org>`,
		"=?utf-8?q?=3Cboss=40example.org=3E=2C?= =?utf-8?b?Ijw=?= <a@example.org>": `"<boss@example.org>,\"<" <a@example.org>`,
		"=?unknown?q?<boss@example.org>?= <a@example.org>":                         "=?unknown?q?<boss@example.org>?= <a@example.org>",
		`"\"=?utf-8?q?=22=2C_boss=40example.org=2C?=" <a@example.org>`:             `"\"\", boss@example.org," <a@example.org>`,
	} {
		got := decodeAddresses(in)
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
		list, err := mail.ParseAddressList(got)
		if err == nil && (len(list) != 1 || list[0].Address != "a@example.org") {
			t.Errorf("%s names %v", in, list)
		}
	}
}
