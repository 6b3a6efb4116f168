package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
)

// need skips on a laptop without a program, and fails where everything must be there.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil && (program != "postfix" || os.Getuid() == 0) {
		return path
	}
	testenv.Missing(t, fmt.Errorf("%s is not there, or needs root: %v", program, err))
	return ""
}

const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = %[2]s
mydestination =
mynetworks = 127.0.0.0/8
disable_dns_lookups = yes
smtp_host_lookup = native
local_recipient_maps =
alias_maps =
alias_database =
maillog_file_prefixes = %[1]s
maillog_file = %[1]s/maillog
smtpd_relay_restrictions = permit_mynetworks, reject
`

const postfixMaster = `%s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
tlsmgr unix - - n 1000? 1 tlsmgr
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// postfix is a private instance below a folder of its own.
type postfix struct {
	t         *testing.T
	addr, dir string
}

// startPostfix runs a Postfix until the test ends. main is added to its main.cf.
func startPostfix(t *testing.T, hostname, main string) *postfix {
	t.Helper()
	program := need(t, "postfix")
	dir, err := os.MkdirTemp("", "mwpf")
	if err != nil {
		t.Fatal(err)
	}
	p := &postfix{t: t, addr: testenv.FreeAddr(t), dir: dir}
	u, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	for name, mine := range map[string]bool{"": false, "etc": false, "spool": false, "data": true, "mail": true} {
		d := filepath.Join(dir, name)
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		os.Chmod(d, 0o755)
		if mine {
			os.Chown(d, uid, gid)
		}
	}
	main = fmt.Sprintf(postfixMain, dir, hostname) + strings.NewReplacer("UID", u.Uid, "GID", u.Gid, "DIR", dir).Replace(main)
	for name, text := range map[string]string{"main.cf": main, "master.cf": fmt.Sprintf(postfixMaster, p.addr)} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	etc := filepath.Join(dir, "etc")
	if out, err := exec.Command(program, "-c", etc, "check").CombinedOutput(); err != nil {
		t.Fatalf("postfix check: %v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-c", etc, "start-fg")
	cmd.Cancel = func() error { return exec.Command(program, "-c", etc, "stop").Run() }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(dir, "maillog"))
			t.Logf("log of Postfix %s:\n%s", hostname, tail(string(b), 40))
		}
		os.RemoveAll(dir)
	})
	eventually(t, 30*time.Second, "Postfix "+hostname, func() bool {
		c, err := net.DialTimeout("tcp", p.addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p
}

// mailbox are the mails that were delivered to a mailbox, as they are.
func (p *postfix) mailbox(name string) (mails [][]byte) {
	files, _ := filepath.Glob(filepath.Join(p.dir, "mail", name, "new", "*"))
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			mails = append(mails, b)
		}
	}
	return mails
}

const mailboxes = `virtual_mailbox_domains = ours.example
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = inline:{ {bob@ours.example=bob/} {postmaster@ours.example=bob/} {jürgen@ours.example=utf/} }
virtual_uid_maps = static:UID
virtual_gid_maps = static:GID
virtual_minimum_uid = 1
`

func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.ours.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for f, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: kb}} {
		if err := os.WriteFile(f, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// startServerWithTLS is a server that offers STARTTLS and LMTP.
func startServerWithTLS(t *testing.T, hop string) (s *server, lmtp string) {
	t.Helper()
	certFile, keyFile := certificate(t)
	s, lmtp = newServer(t, hop, ""), testenv.FreeAddr(t)
	b, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte("smtp: {listen:"), fmt.Appendf(nil, `smtp: {lmtp_listen: ["%s"], tls: {cert_file: %s, key_file: %s}, listen:`, lmtp, certFile, keyFile), 1)
	if err := os.WriteFile(s.conf, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	return s, lmtp
}

// TestPostfix_BeforeAndBehind is a real mail server on each side: what one of
// them sends, the other one gets, byte for byte below the header lines of all three.
func TestPostfix_BeforeAndBehind(t *testing.T) {
	t.Parallel()
	behind := startPostfix(t, "mail.ours.example", mailboxes)
	s, _ := startServerWithTLS(t, behind.addr)
	before := startPostfix(t, "mail.sender.example", "relay_domains = ours.example\nsmtp_tls_security_level = encrypt\nrelayhost = [127.0.0.1]:"+s.smtp[strings.LastIndexByte(s.smtp, ':')+1:]+"\n")
	bodies := map[string]string{
		"plain":    "Hello Bob",
		"dots":     ".\r\n..\r\n.leading\r\ntrailing.",
		"eightbit": "Grüße aus München, 100 €",
		"long":     strings.Repeat("word ", 190),
		"big":      strings.Repeat(strings.Repeat("x", 70)+"\r\n", 30_000) + "end",
	}
	for subject, body := range bodies {
		c := dialSMTP(t, before.addr)
		if _, err := c.mail("erika@sender.example", []string{"bob@ours.example"}, text(subject, body)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 60*time.Second, "all mails in the mailbox", func() bool { return len(behind.mailbox("bob")) == len(bodies) })
	for _, m := range behind.mailbox("bob") {
		head, got, _ := strings.Cut(string(m), "\n\n")
		_, rest, _ := strings.Cut(head, "Subject: ")
		subject, _, _ := strings.Cut(rest, "\n")
		if want := strings.ReplaceAll(bodies[subject], "\r\n", "\n") + "\n"; got != want {
			t.Errorf("%s: the body changed on its way (%d bytes, want %d)", subject, len(got), len(want))
		}
		if !strings.Contains(head, "by mx.ours.example (Mailward) with ESMTPS id ") || strings.Count(head, "X-Mailward-ID: ") != 1 {
			t.Errorf("%s: our lines:\n%s", subject, head)
		}
	}
	// A recipient that the server behind us does not know is refused at RCPT.
	c := dialSMTP(t, s.smtp)
	for _, step := range [][2]string{{"MAIL FROM:<erika@sender.example>", "250"}, {"RCPT TO:<nobody@ours.example>", "550 5.1.1"}, {"RCPT TO:<postmaster@ours.example>", "250"}} {
		if r, err := c.send(step[0] + "\r\n"); err != nil || !strings.HasPrefix(r, step[1]) {
			t.Errorf("%s: %q, want %s (%v)", step[0], r, step[1], err)
		}
	}
	// Postfix slows a client down that asks for many whom it does not know; ours
	// must not wait for that, nor the mail that comes next.
	begin := time.Now()
	var guesses strings.Builder
	for i := range 30 {
		fmt.Fprintf(&guesses, "RCPT TO:<guess%d@ours.example>\r\n", i)
	}
	r, err := c.send(guesses.String())
	for i := 0; i < 29 && err == nil && strings.HasPrefix(r, "550 5.1.1"); i++ {
		r, err = c.reply()
	}
	if d := time.Since(begin); err != nil || !strings.HasPrefix(r, "550 5.1.1") || d > 10*time.Second {
		t.Errorf("many who are unknown: %q (%v) after %v", r, err, d)
	}
	// Postfix writes ORCPT of an address outside of ASCII in its own way.
	c = dialSMTP(t, before.addr)
	for _, step := range [][2]string{{"MAIL FROM:<erika@sender.example> SMTPUTF8 BODY=8BITMIME", "250"}, {"RCPT TO:<jürgen@ours.example>", "250"}, {"DATA", "354"}, {"Subject: Grüße\r\n\r\nHallo\r\n.", "250"}} {
		if r, err := c.send(step[0] + "\r\n"); err != nil || !strings.HasPrefix(r, step[1]) {
			t.Fatalf("%s: %q, want %s (%v)", step[0], r, step[1], err)
		}
	}
	eventually(t, 60*time.Second, "a mail for jürgen", func() bool { return len(behind.mailbox("utf")) == 1 })
}

// TestSwaks drives the edge with a client that others test mail servers with.
func TestSwaks(t *testing.T) {
	t.Parallel()
	swaks := need(t, "swaks")
	behind := startPostfix(t, "mail.ours.example", mailboxes)
	s, lmtp := startServerWithTLS(t, behind.addr)
	run := func(server string, args ...string) (string, int) {
		cmd := exec.Command(swaks, append([]string{"--server", server, "--from", "erika@sender.example", "--helo", "client.example", "--body", "Hello", "--hide-informational"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	to := "bob@ours.example"
	for name, tt := range map[string]struct {
		server string
		args   []string
		code   int // of swaks: 24 is "no recipient was taken"
		want   string
	}{
		"plain":            {s.smtp, []string{"--to", to}, 0, "250 2.0.0 Accepted"},
		"TLS":              {s.smtp, []string{"--to", to, "--tls"}, 0, "<~  250 2.0.0 Accepted"},
		"pipelined":        {s.smtp, []string{"--to", to, "--pipeline"}, 0, "250 2.0.0 Accepted"},
		"pipelined TLS":    {s.smtp, []string{"--to", to, "--pipeline", "--tls"}, 0, "250 2.0.0 Accepted"},
		"null sender":      {s.smtp, []string{"--to", to, "--from", "<>"}, 0, "250 2.0.0 Accepted"},
		"HELO":             {s.smtp, []string{"--to", to, "--protocol", "SMTP"}, 0, "250 2.0.0 Accepted"},
		"LMTP":             {lmtp, []string{"--to", to, "--protocol", "LMTP"}, 0, "250 2.0.0 <bob@ours.example> Accepted"},
		"relaying":         {s.smtp, []string{"--to", "x@foreign.example"}, 24, "550 5.7.1"},
		"unknown":          {s.smtp, []string{"--to", "nobody@ours.example"}, 24, "550 5.1.1"},
		"some of them":     {s.smtp, []string{"--to", to + ",nobody@ours.example"}, 0, "550 5.1.1"},
		"EICAR":            {s.smtp, []string{"--to", to, "--body", string(eicar())}, 0, "250 2.0.0 Accepted"},
		"EICAR attached":   {s.smtp, []string{"--to", to, "--attach-name", "a.com", "--attach", string(eicar())}, 0, "250 2.0.0 Accepted"},
		"quits at RCPT":    {s.smtp, []string{"--to", to, "--quit-after", "RCPT"}, 0, "221"},
		"drops after RCPT": {s.smtp, []string{"--to", to, "--drop-after", "RCPT"}, 0, "250 2.1.5"},
	} {
		args := append([]string{"--header", "Subject: swaks " + name}, tt.args...)
		if out, code := run(tt.server, args...); code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s", name, code, tt.code, tt.want, out)
		}
	}
	eventually(t, 30*time.Second, "eight mails in the mailbox", func() bool { return len(behind.mailbox("bob")) == 8 })
	for _, m := range behind.mailbox("bob") {
		if bytes.Contains(m, []byte("EICAR")) {
			t.Errorf("an infected mail was passed on:\n%s", m)
		}
	}
}

// TestPostfix_BeforeQueue is Postfix with us as its smtpd_proxy_filter, and behind us
// as well. It tells of its own client by XFORWARD, and hears of it.
func TestPostfix_BeforeQueue(t *testing.T) {
	t.Parallel()
	behind := startPostfix(t, "mail.ours.example", mailboxes+"smtpd_authorized_xforward_hosts = 127.0.0.0/8\n")
	s := newServer(t, behind.addr, "")
	b, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte("smtp: {listen:"), []byte(`smtp: {xforward_from: ["127.0.0.0/8"], listen:`), 1)
	b = bytes.Replace(b, []byte(`"`+behind.addr+`"}}`), fmt.Appendf(nil, `behind}, routes: {behind: {xforward: true, hosts: [{address: "%s"}]}}}`, behind.addr), 1)
	if err := os.WriteFile(s.conf, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	before := startPostfix(t, "mx.before.example", "relay_domains = ours.example\nsmtpd_relay_restrictions = permit_auth_destination, reject\nsmtpd_proxy_filter = "+s.smtp+"\nsmtpd_authorized_xclient_hosts = 127.0.0.0/8\n")
	c := dialSMTP(t, before.addr)
	if r, err := c.send("XCLIENT ADDR=203.0.113.7 NAME=client.world.example HELO=outer.world.example\r\n"); err != nil || !strings.HasPrefix(r, "220") {
		t.Fatalf("XCLIENT: %q, %v", r, err)
	}
	for _, step := range [][2]string{{"EHLO outer.world.example", "250"}, {"MAIL FROM:<erika@sender.example>", "250"}, {"RCPT TO:<bob@ours.example>", "250"}} {
		if r, err := c.send(step[0] + "\r\n"); err != nil || !strings.HasPrefix(r, step[1]) {
			t.Fatalf("%s: %q, want %s (%v)", step[0], r, step[1], err)
		}
	}
	if r, err := c.send("DATA\r\n"); err != nil || !strings.HasPrefix(r, "354") {
		t.Fatalf("DATA: %q, %v", r, err)
	}
	if r, err := c.send(string(text("forwarded", "Hello")) + ".\r\n"); err != nil || !strings.HasPrefix(r, "250") {
		t.Fatalf("mail: %q, %v", r, err)
	}
	eventually(t, 60*time.Second, "the mail in the mailbox", func() bool { return len(behind.mailbox("bob")) == 1 })
	if m := string(behind.mailbox("bob")[0]); !strings.Contains(m, "Received: from outer.world.example ([203.0.113.7])\n\tby mx.ours.example (Mailward)") {
		t.Errorf("our line:\n%s", m)
	}
	log, err := os.ReadFile(filepath.Join(behind.dir, "maillog"))
	if err != nil || !strings.Contains(string(log), "orig_client=client.world.example[203.0.113.7]") {
		t.Errorf("the Postfix behind us does not know the client: %v\n%s", err, tail(string(log), 20))
	}
}
