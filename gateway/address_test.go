package gateway

import (
	"slices"
	"strings"
	"testing"
)

func TestMailbox(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a@b.example": "a@b.example", "a+b=c!d@b.example.": "a+b=c!d@b.example.", "ü@ü.example": "ü@ü.example",
		"john doe@b.example": `"john doe"@b.example`, `j"d\@b.example`: `"j\"d\\"@b.example`, "a@c.example@b.example": `"a@c.example"@b.example`,
		"ceo@ours.example> X@b.example": `"ceo@ours.example> X"@b.example`, "a..b@b.example": `"a..b"@b.example`, ".a@b.example": `".a"@b.example`,
		"a@[192.0.2.1]": "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]": "a@[IPv6:2001:db8::1]", "a@x_y": "a@x_y",
		strings.Repeat("a", 255) + "@b.example": strings.Repeat("a", 255) + "@b.example",

		"a": "", "@b.example": "", "a@": "", "a@b..example": "", "a@.b": "", `a@b"c`: "", "a@b<c": "", "a@b,c": "", "a@[1.2.3.4": "", "a@[]": "", "a@[<]": "",
		"a\x01@b.example": "", "a\x7f@b.example": "", "a\xff@b.example": "", strings.Repeat("a", 990) + "@b.example": "",
	} {
		if got, err := mailbox(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

// TestAddresses_GoOutAsTheyCame: what is between the brackets at the next hop is
// the address that was checked.
func TestAddresses_GoOutAsTheyCame(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	from, to := `"ceo@ours.example> SIZE=1"@evil.example`, []string{`"john doe"@ours.example`, `"v> NOTIFY=NEVER"@ours.example`, `"bob"@ours.example`}
	f.wantReply(f.dial().send(from, to, "Subject: clean\r\n\r\nx\r\n"), 250)
	f.wantHop(1)
	for _, want := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + to[0] + ">", "RCPT TO:<" + to[1] + ">", "RCPT TO:<bob@ours.example>"} {
		if !slices.ContainsFunc(f.hop.Commands(), func(c string) bool { return c == want || strings.HasPrefix(c, want+" ") }) {
			t.Errorf("no %s in %q", want, f.hop.Commands())
		}
	}
}

func TestTakeORCPT(t *testing.T) {
	t.Parallel()
	const rcpt = "RCPT TO:<bob@ours.example>"
	for _, c := range []struct{ in, rest, orcpt string }{
		{rcpt + " ORCPT=x400;/c+3Dus/s+3Dbob NOTIFY=NEVER", rcpt + "  NOTIFY=NEVER", "x400;/c+3Dus/s+3Dbob"},
		{rcpt + " notify=never orcpt=X500;a", rcpt + " notify=never ", "X500;a"},
		{rcpt + " ORCPT=rfc822;a@b.example", rcpt + " ", "rfc822;a@b.example"},
		{rcpt + " ORCPT=rfc822;gr+C3+BC@b.example", rcpt + " ", "rfc822;gr+C3+BC@b.example"}, // as Postfix writes it
		{rcpt + " ORCPT=rfc822;a+0D+0A", "", ""}, {rcpt + " ORCPT=rfc822;a+FF", "", ""},
		{"RCPT TO:bob@ours.example ORCPT=rfc822;a", "RCPT TO:bob@ours.example ", "rfc822;a"}, {"RCPT TO: bob@ours.example", "", ""},
		{rcpt + " ORCPT=utf-8;a@b.example", "", ""},
		{rcpt + " ORCPT=x400;", "", ""}, {rcpt + " ORCPT=;a", "", ""}, {rcpt + " ORCPT=x400;a+2", "", ""}, {rcpt + " ORCPT=x400;a+zz", "", ""},
		{rcpt + " ORCPT=x400;a=b", "", ""}, {rcpt + " ORCPT=x 400;a", "", ""}, {rcpt, "", ""},
		{`RCPT TO:<"a ORCPT=x;y "@ours.example>`, "", ""},
	} {
		if c.rest == "" {
			c.rest = c.in
		}
		if rest, orcpt := takeORCPT([]byte(c.in)); string(rest) != c.rest || orcpt != c.orcpt {
			t.Errorf("%q: %q %q", c.in, rest, orcpt)
		}
	}
}
