package gateway

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.ours.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	fatal(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// listen serves the fixture's gateway once more, with other settings.
func (f *fixture) listen(change func(*Config)) {
	f.t.Helper()
	cfg := f.srv.cfg
	change(&cfg)
	srv, err := New(cfg, f.srv.deps)
	fatal(f.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(f.t, err)
	f.addr = l.Addr().String()
	go srv.Serve(l)
	f.t.Cleanup(srv.Close)
}

func TestSTARTTLS(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.listen(func(c *Config) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, MinVersion: tls.VersionTLS12}
	})
	// What a man in the middle puts behind STARTTLS, in the same packet, must not
	// be taken as said under TLS (RFC 3207 §4.2).
	c := f.dial()
	io.WriteString(c, "STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@sender.example>\r\n")
	f.wantReply(c.reply(), 503)
	if r := c.reply(); r != "EOF" {
		t.Errorf("the session goes on: %q", r)
	}
	c = f.dial()
	c.say("MAIL FROM:<evil@sender.example>")
	f.wantReply(c.say("STARTTLS"), 220)
	tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	fatal(t, tc.Handshake())
	s := &client{tc, bufio.NewReader(tc)}
	if r := s.say("RCPT TO:<bob@ours.example>"); strings.HasPrefix(r, "250") {
		t.Fatalf("an envelope from before TLS is still there: %q", r)
	}
	f.wantReply(s.say("MAIL FROM:<a@sender.example>"), 503)
	if r := s.say("EHLO client.example"); strings.Contains(r, "STARTTLS") {
		t.Errorf("STARTTLS is offered under TLS: %q", r)
	}
	f.wantReply(s.send("erika@sender.example", []string{"bob@ours.example"}, "Subject: tls\r\n\r\nx\r\n"), 250)
	if m := f.wantHop(1)[0]; !strings.Contains(string(m.Data), "with ESMTPS id") || m.From != "erika@sender.example" {
		t.Errorf("from %s: %s", m.From, m.Data)
	}
	// A mail that is given up between two chunks is nobody's under TLS.
	half := f.dial()
	half.say("MAIL FROM:<a@sender.example>")
	half.say("RCPT TO:<bob@ours.example>")
	io.WriteString(half, "BDAT 10\r\nSubject: x")
	f.wantReply(half.reply(), 250)
	f.wantReply(half.say("STARTTLS"), 220)
	tc = tls.Client(half.Conn, &tls.Config{InsecureSkipVerify: true})
	fatal(t, tc.Handshake())
	s = &client{tc, bufio.NewReader(tc)}
	f.wantReply(s.say("EHLO client.example"), 250)
	f.wantReply(s.send("erika@sender.example", []string{"bob@ours.example"}, "Subject: whole\r\n\r\nx\r\n"), 250)
	f.wantHop(2)
	old := f.dial()
	f.wantReply(old.say("STARTTLS"), 220)
	if err := tls.Client(old.Conn, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}).Handshake(); err == nil {
		t.Error("TLS 1.1 was taken")
	}
}

// TestExtension_Withdrawn: what was offered in a session and cannot be passed on any
// more is for later, not for good: the client did nothing wrong.
func TestExtension_Withdrawn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.srv.deps.Policies.SetStatic(routesTo(f.hop.Addr))
	learn := func(features ...string) {
		t.Helper()
		f.hop.Features(append([]string{"PIPELINING", "8BITMIME"}, features...)...)
		_, err := f.srv.deps.Hops.Check(t.Context(), f.hop.Addr)
		fatal(t, err)
	}
	learn("DSN", "SMTPUTF8")
	c := f.dial()
	f.wantReply(c.say("MAIL FROM:<erika@sender.example>"), 250)
	learn()
	f.wantReply(c.say("RCPT TO:<bob@ours.example> NOTIFY=NEVER"), 455)
	f.wantReply(c.say("RCPT TO:<bob@ours.example>"), 250)
	c.say("RSET")
	f.wantReply(c.say("MAIL FROM:<erika@sender.example> RET=HDRS"), 455)
	f.wantReply(c.say("MAIL FROM:<jürgen@sender.example> SMTPUTF8"), 455)
	f.wantReply(c.say("MAIL FROM:<jürgen@sender.example>"), 550)
	c.say("EHLO client.example")
	f.wantReply(c.say("MAIL FROM:<erika@sender.example> RET=HDRS"), 555)
	f.wantReply(c.say("MAIL FROM:<jürgen@sender.example> SMTPUTF8"), 550)
}

// TestRCPTMAX: recipients beyond what the next hop takes come in another mail
// (RFC 9422 §4.2), and do not wait in our queue.
func TestRCPTMAX(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.hop.Features("PIPELINING", "8BITMIME", "LIMITS RCPTMAX=2 MAILMAX=100")
	_, err := f.srv.deps.Hops.Check(t.Context(), f.hop.Addr)
	fatal(t, err)
	c := f.dial()
	f.wantReply(c.say("MAIL FROM:<erika@sender.example>"), 250)
	f.wantReply(c.say("RCPT TO:<a@ours.example>"), 250)
	f.wantReply(c.say("RCPT TO:<b@ours.example>"), 250)
	f.wantReply(c.say("RCPT TO:<c@ours.example>"), 452)
	f.wantReply(c.say("RCPT TO:<a@ours.example>"), 250) // is one of them
}
