package sink

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"mailward/audit"
)

func line(seq int64) audit.Line {
	return audit.Line{Seq: seq, Time: time.Unix(1_790_000_000, 0), Action: "guard.violation", Severity: "critical",
		Fields: map[string]any{"seq": seq, "action": "guard.violation", "outcome": map[string]any{"result": "refused"}}}
}

func numbers(t *testing.T, path string) (out []float64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		var m map[string]map[string]any
		if !strings.HasSuffix(l, "\n") || json.Unmarshal([]byte(l), &m) != nil || m["mailward"] == nil {
			out = append(out, -1)
			continue
		}
		out = append(out, m["mailward"]["seq"].(float64))
	}
	return out
}

func TestFile_Rotation(t *testing.T) {
	t.Parallel()
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "events.json")
	f := &File{Path: path}
	send := func(seqs ...int64) {
		t.Helper()
		for _, n := range seqs {
			if err := f.Send(ctx, []audit.Line{line(n)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(0, 1)
	// logrotate renames; the next line goes to a new file.
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	send(2)
	// Somebody removes it.
	os.Remove(path)
	send(3)
	if got := fmt.Sprint(numbers(t, path+".old"), numbers(t, path)); got != "[0 1] [3]" {
		t.Errorf("after rotation: %s", got)
	}
	// A crash has cut a line off: what comes next begins a line of its own.
	f.Close()
	if err := os.WriteFile(path, []byte(`{"mailward":{"seq":3}}`+"\n"+`{"mailwa`), 0o640); err != nil {
		t.Fatal(err)
	}
	send(4)
	if got := fmt.Sprint(numbers(t, path)); got != "[3 -1 4]" {
		t.Errorf("after a crash: %s", got)
	}
	f.MaxSize, f.Keep = 1, 2
	send(5, 6, 7)
	if got := fmt.Sprint(numbers(t, path), numbers(t, path+".1"), numbers(t, path+".2")); got != "[7] [6] [5]" {
		t.Errorf("our own rotation: %s", got)
	}
	big := line(8)
	big.Fields["change"] = map[string]any{"after": strings.Repeat("x", 100_000)}
	if err := f.Send(ctx, []audit.Line{big}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); len(b) > lineLimit || !strings.Contains(string(b), `"truncated":true`) {
		t.Errorf("a long line has %d bytes", len(b))
	}
	if st, _ := os.Stat(path); st.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v", st.Mode())
	}
	gone := &File{Path: filepath.Join(t.TempDir(), "no", "events.json")}
	if err := gone.Send(ctx, []audit.Line{line(9)}); err == nil {
		t.Error("a folder that is not there")
	}
}

// server is a syslog server over TLS that keeps what it gets.
type server struct {
	t    *testing.T
	conf *tls.Config
	pool *x509.CertPool
	addr string

	mu   sync.Mutex
	l    net.Listener
	open []net.Conn
	got  []string
}

func newServer(t *testing.T) *server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, conf: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool: x509.NewCertPool(), addr: "127.0.0.1:0"}
	s.pool.AddCert(cert)
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	s.t.Helper()
	l, err := tls.Listen("tcp", s.addr, s.conf)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.l, s.addr = l, l.Addr().String()
	s.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open = append(s.open, c)
			s.mu.Unlock()
			go s.read(c)
		}
	}()
}

// read takes octet-counted messages (RFC 5425 §4.3.1).
func (s *server) read(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		var n int
		if _, err := fmt.Fscanf(r, "%d ", &n); err != nil {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		s.mu.Lock()
		s.got = append(s.got, string(b))
		s.mu.Unlock()
	}
}

func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != nil {
		s.l.Close()
	}
	for _, c := range s.open {
		c.Close()
	}
	s.open = nil
}

func (s *server) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.got...)
}

func TestSyslog_OverTLS(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.start()
	ctx := context.Background()
	s := &Syslog{Address: srv.addr, TLS: &tls.Config{RootCAs: srv.pool}, Hostname: "mx.ours.example"}
	defer s.Close()
	if err := s.Send(ctx, []audit.Line{line(0), line(1)}); err != nil {
		t.Fatal(err)
	}
	wait := func(n int) []string {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			if got := srv.messages(); len(got) >= n {
				return got
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d messages, want %d", len(srv.messages()), n)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	form := regexp.MustCompile(`^<106>1 2026-09-21T\d\d:\d\d:\d\d\.000000Z mx\.ours\.example mailward - guard\.violation \[meta sequenceId="2"\] \x{FEFF}\{.*"seq":1.*\}$`)
	if got := wait(2); !form.MatchString(got[1]) {
		t.Errorf("message %q", got[1])
	}
	// The server goes: what is sent then is not sent, and says so.
	srv.stop()
	failed := false
	for i := 0; i < 100 && !failed; i++ {
		failed = s.Send(ctx, []audit.Line{line(2)}) != nil
		time.Sleep(5 * time.Millisecond)
	}
	if !failed {
		t.Fatal("nobody is there, and events are sent")
	}
	srv.start()
	before := len(srv.messages())
	if err := s.Send(ctx, []audit.Line{line(2), line(3)}); err != nil {
		t.Fatal(err)
	}
	got := wait(before + 2)
	if !strings.Contains(got[len(got)-1], `"seq":3`) {
		t.Errorf("after the reconnect: %q", got[len(got)-1])
	}
	stranger := &Syslog{Address: srv.addr, TLS: &tls.Config{RootCAs: x509.NewCertPool()}, Hostname: "x"}
	if err := stranger.Send(ctx, []audit.Line{line(4)}); err == nil {
		t.Error("a server that nobody vouches for gets the record")
	}
}

// TestSyslog_CertificateRefused: with TLS 1.3 the server says so when we have begun to
// send already. Nothing may count as sent, however often it is tried.
func TestSyslog_CertificateRefused(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.conf.ClientAuth, srv.conf.MinVersion = tls.RequireAnyClientCert, tls.VersionTLS13
	refuse := make(chan struct{})
	time.AfterFunc(300*time.Millisecond, func() { close(refuse) }) // as far away as another continent
	srv.conf.VerifyConnection = func(tls.ConnectionState) error { <-refuse; return errors.New("not you") }
	srv.start()
	key := srv.conf.Certificates[0]
	s := &Syslog{Address: srv.addr, TLS: &tls.Config{RootCAs: srv.pool, Certificates: []tls.Certificate{key}}, Hostname: "x"}
	defer s.Close()
	if err := s.Send(context.Background(), []audit.Line{line(1)}); err == nil {
		t.Fatal("events count as sent to a server that refused us")
	}
	if got := srv.messages(); len(got) != 0 {
		t.Errorf("it has %q", got)
	}
}

// TestSyslog_LongEvents: rsyslog 8.2302 splits what is longer than 8096 bytes into
// messages that nobody can read.
func TestSyslog_LongEvents(t *testing.T) {
	t.Parallel()
	s := &Syslog{Hostname: "mx.ours.example"}
	long := strings.Repeat("ä", 20_000)
	for name, spoil := range map[string]func(map[string]any){
		"change":  func(f map[string]any) { f["change"] = map[string]any{"after": long} },
		"targets": func(f map[string]any) { f["targets"] = []string{long} },
		"reason":  func(f map[string]any) { f["reason"] = map[string]any{"text": long} },
	} {
		l := line(7)
		l.Fields["leaf_hash"] = "abc"
		spoil(l.Fields)
		msg, err := s.message(l)
		_, body, _ := strings.Cut(msg, "\xef\xbb\xbf")
		var m map[string]any
		if err != nil || len(msg) > DefaultMessage || json.Unmarshal([]byte(body), &m) != nil || m["truncated"] != true || m["seq"] != 7.0 || m["leaf_hash"] != "abc" {
			t.Errorf("%s: %d bytes, %v, %.200s", name, len(msg), err, body)
		}
		if l.Fields["truncated"] != nil {
			t.Errorf("%s: the event itself was cut", name)
		}
		if msg, err := (&Syslog{Hostname: "x", MaxMessage: 100_000}).message(l); err != nil || !strings.Contains(msg, long) {
			t.Errorf("%s: cut where there was room: %d bytes, %v", name, len(msg), err)
		}
		if b, err := wrap(l); err != nil || len(b) > lineLimit || b[len(b)-1] != '\n' {
			t.Errorf("%s in the file: %d bytes, %v", name, len(b), err)
		}
	}
}

// TestWazuhRules reads the rules that we ship: each field that they look at is
// one of the event's, ids are ours to use, and parents are there.
func TestWazuhRules(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../deploy/wazuh/mailward_rules.xml")
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Rules []struct {
			ID     int      `xml:"id,attr"`
			Level  int      `xml:"level,attr"`
			Parent []int    `xml:"if_sid"`
			Same   []string `xml:"same_field"`
			Fields []struct {
				Name  string `xml:"name,attr"`
				Value string `xml:",chardata"`
			} `xml:"field"`
			Description string `xml:"description"`
		} `xml:"rule"`
	}
	if err := xml.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	known := regexp.MustCompile(`^mailward\.(schema|action|severity|outcome\.(result|code)|actor\.(type|id|email)|source\.ip|auth\.method|seq|alert\.(notice|severity))$`)
	seen := map[int]bool{}
	for _, r := range g.Rules {
		if r.ID < 100000 || r.ID > 120000 || seen[r.ID] || r.Description == "" || r.Level > 15 {
			t.Errorf("rule %d", r.ID)
		}
		seen[r.ID] = true
		for _, p := range r.Parent {
			if !seen[p] {
				t.Errorf("rule %d has no parent %d before it", r.ID, p)
			}
		}
		for _, f := range r.Fields {
			if _, err := regexp.Compile(f.Value); err != nil || !known.MatchString(f.Name) {
				t.Errorf("rule %d looks at %s ~ %s: %v", r.ID, f.Name, f.Value, err)
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("%d rules", len(seen))
	}
	// What somebody on duty has to hear of has a rule of its own. In Wazuh's own kind
	// of expression a dot is a dot.
	for _, action := range []string{audit.Lockout, audit.BreakGlass, audit.SSOLogout, audit.LoginFailed, audit.MFAFailed, audit.PasswordReset, "external_identity.create", "role.delete", "alert.rule.update", "retention.update", audit.SinkFailed} {
		found := false
		for _, r := range g.Rules {
			for _, f := range r.Fields {
				re, err := regexp.Compile(strings.ReplaceAll(f.Value, ".", `\.`))
				found = found || err == nil && f.Name == "mailward.action" && re.MatchString(action)
			}
		}
		if !found {
			t.Errorf("%s has no rule", action)
		}
	}
}
