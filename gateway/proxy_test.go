package gateway

import (
	"bufio"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// behindProxy listens for what comes from the loopback with a PROXY header.
func behindProxy(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, false)
	f.listen(func(c *Config) { c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	return f
}

// tcp is a connection on which nothing was said yet.
func (f *fixture) tcp(t *testing.T) *client {
	t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	fatal(t, err)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &client{conn, bufio.NewReader(conn)}
}

// wantClient sends a mail and looks for its client in what the next hop got.
func (f *fixture) wantClient(t *testing.T, c *client, subject, want string) {
	t.Helper()
	if r := c.reply(); !strings.HasPrefix(r, "220") {
		t.Fatalf("no session: %q", r)
	}
	c.say("EHLO client.example")
	if r := c.send("erika@sender.example", []string{"bob@ours.example"}, "Subject: "+subject+"\r\n\r\nx\r\n"); !strings.HasPrefix(r, "250") {
		t.Fatalf("mail: %q", r)
	}
	for _, m := range f.hop.Messages() {
		if strings.Contains(string(m.Data), "Subject: "+subject+"\r\n") {
			if !strings.Contains(string(m.Data), "(["+want+"])") {
				t.Errorf("the client is not %s:\n%s", want, m.Data)
			}
			return
		}
	}
	t.Error("the next hop did not get the mail")
}

func TestPROXY(t *testing.T) {
	t.Parallel()
	f := behindProxy(t)
	c := f.tcp(t)
	io.WriteString(c, "PROXY TCP4 203.0.113.7 192.0.2.1 4000 25\r\n")
	f.wantClient(t, c, "proxied", "203.0.113.7")
	// From an upstream that must send the header, a session without it is none.
	bare := f.tcp(t)
	io.WriteString(bare, "EHLO client.example\r\n")
	if b, _ := io.ReadAll(bare); strings.Contains(string(b), "250") {
		t.Errorf("a session without the header: %q", b)
	}
	// From anybody else the header could claim any address.
	f.listen(func(c *Config) { c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
	liar := f.tcp(t)
	io.WriteString(liar, "PROXY TCP4 203.0.113.7 192.0.2.1 4000 25\r\nEHLO client.example\r\n")
	if b, _ := io.ReadAll(liar); strings.Contains(string(b), "250") {
		t.Errorf("a header from a stranger: %q", b)
	}
}

// v2 is a binary header: command, family, and what follows its length.
func v2(command, family byte, rest []byte) string {
	h := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20|command, family)
	return string(append(binary.BigEndian.AppendUint16(h, uint16(len(rest))), rest...))
}

// tlv is a type-length-value vector, such as those about TLS.
func tlv(kind byte, n int) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(n)), make([]byte, n)...)
}

var (
	four = []byte{203, 0, 113, 7, 192, 0, 2, 1, 0x0f, 0xa0, 0, 25}
	six  = append(append(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice()...), 0x0f, 0xa0, 0, 25)
)

// proxyHeaders are headers and the client that each means; "": none, so that
// there is no session. The specification is HAProxy's proxy-protocol.txt.
var proxyHeaders = map[string]struct{ header, client string }{
	"v1 TCP6":                        {"PROXY TCP6 2001:db8::7 2001:db8::1 4000 25\r\n", "IPv6:2001:db8::7"},
	"v1 UNKNOWN":                     {"PROXY UNKNOWN\r\n", "127.0.0.1"},
	"v1 UNKNOWN with addresses":      {"PROXY UNKNOWN 203.0.113.7 192.0.2.1 4000 25\r\n", "127.0.0.1"},
	"v1 wrong family":                {"PROXY TCP4 2001:db8::7 2001:db8::1 4000 25\r\n", ""},
	"v1 no address":                  {"PROXY TCP4 mail.example 192.0.2.1 4000 25\r\n", ""},
	"v1 port beyond":                 {"PROXY TCP4 203.0.113.7 192.0.2.1 65536 25\r\n", ""},
	"v1 without CR":                  {"PROXY TCP4 203.0.113.7 192.0.2.1 4000 25\n", ""},
	"v1 without end":                 {"PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", ""},
	"v2 TCP4":                        {v2(1, 0x11, four), "203.0.113.7"},
	"v2 TCP6":                        {v2(1, 0x21, six), "IPv6:2001:db8::7"},
	"v2 with vectors about TLS":      {v2(1, 0x11, append(append([]byte{}, four...), tlv(0x20, 2000)...)), "203.0.113.7"},
	"v2 with a vector that is cut":   {v2(1, 0x11, append(append([]byte{}, four...), 0x20, 0xff, 0xff, 1)), "203.0.113.7"},
	"v2 with too much":               {v2(1, 0x11, append(append([]byte{}, four...), tlv(0x20, 60_000)...)), ""},
	"v2 LOCAL":                       {v2(0, 0, nil), "127.0.0.1"},
	"v2 LOCAL, a family, no address": {v2(0, 0x11, nil), "127.0.0.1"},
	"v2 LOCAL, an address":           {v2(0, 0x11, four), "127.0.0.1"},
	"v2 address that is cut":         {v2(1, 0x11, four[:8]), ""},
	"v2 unknown family":              {v2(1, 0x13, four), ""},
	"v2 unspecified family":          {v2(1, 0, nil), ""},
	"v2 unknown command":             {v2(7, 0x11, four), ""},
	"v2 Unix socket":                 {v2(1, 0x31, make([]byte, 216)), "unknown"},
	"half a signature":               {"\r\n\r\n\x00\r\nQUI", ""},
	"nothing":                        {"", ""},
}

func TestPROXY_Headers(t *testing.T) {
	t.Parallel()
	f := behindProxy(t)
	for name, tt := range proxyHeaders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := f.tcp(t)
			io.WriteString(c, tt.header)
			if tt.client != "" {
				f.wantClient(t, c, strings.ReplaceAll(name, " ", "-"), tt.client)
				return
			}
			c.Conn.(*net.TCPConn).CloseWrite()
			if b, _ := io.ReadAll(c); strings.HasPrefix(string(b), "220") {
				t.Errorf("a session: %q", b)
			}
		})
	}
}

// TestPROXY_InPieces: a binary header may come in pieces.
func TestPROXY_InPieces(t *testing.T) {
	t.Parallel()
	f := behindProxy(t)
	c := f.tcp(t)
	for _, b := range []byte(v2(1, 0x21, six)) {
		c.Write([]byte{b})
	}
	f.wantClient(t, c, "pieces", "IPv6:2001:db8::7")
}

// FuzzPROXY: whatever comes in place of the header, there is either no session or
// one with a client that can be named.
func FuzzPROXY(f *testing.F) {
	for _, tt := range proxyHeaders {
		f.Add([]byte(tt.header + "EHLO x\r\n"))
	}
	srv := &Server{log: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			theirs.Write(said)
			theirs.Close()
		}()
		w := newWire(proxyproto.NewConn(ours, proxyproto.WithPolicy(proxyproto.REQUIRE)), &wireOptions{}, func() {})
		if err := srv.greet(w); err != nil {
			return
		}
		if !strings.HasPrefix(string(said), "PROXY ") && !strings.HasPrefix(string(said), "\r\n\r\n\x00\r\nQUIT\n") {
			t.Errorf("a session after %q", said)
		}
		if a := w.client(); a.IsValid() && a.Is4In6() || w.RemoteAddr() == nil || w.LocalAddr() == nil {
			t.Errorf("after %q the client is %v", said, a)
		}
	})
}
