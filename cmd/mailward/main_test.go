package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailward/audit"
	"mailward/intel"
	"mailward/internal/pg"
	"mailward/internal/testenv"
	"mailward/policy"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// buffer is written by the program while the test reads it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// command runs one command in this process.
func command(t *testing.T, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e buffer
	code = run(t.Context(), env{args: args, in: strings.NewReader(stdin), out: &o, err: &e})
	return code, o.String(), e.String()
}

func shortDir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("", "mwm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestErrors_AreOneLineThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	bad := writeFile(t, "hostname: x y\nno_such: 1\n")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"nonsense"}, 2, "mailward --help"},
		{[]string{"serve", "--no-such-flag"}, 2, "--no-such-flag"},
		{[]string{"serve", "--only", "kitchen"}, 1, "gateway, web, worker"},
		{[]string{"serve", "--config", bad}, 1, "unknown key no_such"},
		{[]string{"serve", "--config", "/nowhere/x.yaml"}, 1, "/nowhere/x.yaml"},
		{[]string{"send", "--to", "127.0.0.1:1", "/nowhere.eml"}, 1, "/nowhere.eml"},
		{[]string{"user", "create", "--email", "a@b.example"}, 1, "--role"},
		{[]string{"demo", "/nowhere"}, 1, "*.eml"},
		{[]string{"scan", "--config", bad, "x"}, 2, "unknown key"},
	} {
		code, out, errs := command(t, "", c.args...)
		if code != c.code || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("%v: code %d, stdout %q, stderr %q", c.args, code, out, errs)
		}
	}
	code, out, errs := command(t, "", "config", "--check", "--config", bad)
	if code != 1 || out != "" || strings.Count(errs, "\n") != 3 {
		t.Errorf("config --check: %d %q %q", code, out, errs)
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"serve", "migrate", "config", "scan", "send", "sink", "user create", "token create", "audit verify", "audit export", "audit reanchor", "audit rotate-key", "audit erase", "audit purge", "incident deadlines", "demo", "doctor", "version"} {
		code, out, errs := command(t, "", append(strings.Fields(c), "--help")...)
		if code != 0 || !strings.Contains(out, "Usage: mailward "+c) || errs != "" {
			t.Errorf("%s --help: %d %q %q", c, code, out, errs)
		}
	}
}

// TestSend_Raw: with --raw the bytes go out as they are, without it with line
// ends as SMTP wants them.
func TestSend_Raw(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	for i, tt := range []struct {
		flags []string
		want  string
	}{{nil, "alone\r\nand"}, {[]string{"--raw"}, "alone\nand"}} {
		args := append([]string{"send", "--to", h.Addr, "--from", "a@sender.example", "--rcpt", "b@ours.example", "-"}, tt.flags...)
		if code, out, errs := command(t, "Subject: x\r\n\r\nalone\nand more\r\n", args...); code != 0 {
			t.Fatalf("%v: %d %s%s", tt.flags, code, out, errs)
		}
		if m := h.Messages(); len(m) != i+1 || !strings.Contains(string(m[i].Data), tt.want) {
			t.Errorf("%v: %q", tt.flags, m)
		}
	}
}

func TestSendAndSink(t *testing.T) {
	t.Parallel()
	dir, addr := shortDir(t), testenv.FreeAddr(t)
	ctx, cancel := context.WithCancel(t.Context())
	var o, e buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, env{args: []string{"sink", "--listen", addr, "--dir", dir}, in: strings.NewReader(""), out: &o, err: &e})
	}()
	eventually(t, "sink listens", func() bool { return strings.Contains(e.String(), "taking mail on") })
	lf := writeFile(t, "From: Anna <anna@example.com>\nTo: b@example.org, C <c@example.org>\nSubject: x\n\n.dot\nend\n")
	if code, out, errs := command(t, "", "send", "--to", addr, lf); code != 0 || !strings.Contains(out, ": 250 ") {
		t.Fatalf("send: %d %q %q", code, out, errs)
	}
	if code, out, errs := command(t, "Subject: none\r\n\r\nx\r\n", "send", "--to", addr, "--from", "", "--rcpt", "d@example.org", "-"); code != 0 {
		t.Fatalf("send from stdin: %d %q %q", code, out, errs)
	}
	if code, _, errs := command(t, "Subject: none\r\n\r\nx\r\n", "send", "--to", addr, "-"); code != 1 || !strings.Contains(errs, "--from") {
		t.Errorf("send without a sender: %d %q", code, errs)
	}
	var mails []string
	filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			b, _ := os.ReadFile(p)
			mails = append(mails, string(b))
		}
		return err
	})
	if len(mails) != 2 || !strings.Contains(strings.Join(mails, ""), "Subject: x\r\n\r\n.dot\r\nend\r\n") {
		t.Errorf("kept: %q", mails)
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("sink ended with %d: %s", code, e.String())
	}
	if code, out, _ := command(t, "", "send", "--to", addr, lf); code != 1 || out == "" {
		t.Errorf("send to nobody: %d %q", code, out)
	}
}

func TestScan_ExitCodes(t *testing.T) {
	t.Parallel()
	clamd, sidecar := testenv.Clamd(t), testenv.Sidecar(t)
	conf := writeFile(t, fmt.Sprintf("data_dir: %s\nclamav: {address: %q}\nscanner: {socket: %q}\n", shortDir(t), clamd.Address, sidecar.Address))
	scan := func(want int, class, mail string) string {
		t.Helper()
		code, out, errs := command(t, mail, "scan", "--config", conf, "-")
		var v verdict
		json.Unmarshal([]byte(out), &v)
		if code != want || string(v.Class) != class && want != 2 {
			t.Errorf("exit code %d, class %s, stderr %q; want %d, %s", code, v.Class, errs, want, class)
		}
		return errs
	}
	head := "From: a@example.com\nTo: b@example.org\nSubject: x\n\n"
	scan(0, "clean", head+"nothing here\n")
	scan(1, "malware", head+`X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR`+"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*\n")
	clamd.Stop()
	if errs := scan(2, "", head+"nothing here\n"); !strings.Contains(errs, "clamav") {
		t.Errorf("stderr %q does not name the engine", errs)
	}
}

// TestScan_ByPolicy: with recipients it says what their policies would do.
func TestScan_ByPolicy(t *testing.T) {
	t.Parallel()
	clamd, sidecar, db := testenv.Clamd(t), testenv.Sidecar(t), testenv.Postgres(t)
	conf := writeFile(t, fmt.Sprintf("data_dir: %s\nclamav: {address: %q}\nscanner: {socket: %q}\ndatabase: {url: %q}\nrelay: {domains: {ours.example: \"127.0.0.1:25\"}}\n", shortDir(t), clamd.Address, sidecar.Address, db.URL))
	policies := policy.NewStore(db.DB, policy.StaticRoutes{Domains: map[string]string{"ours.example": "a:25"}}, slog.New(slog.DiscardHandler))
	if err := policies.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := policies.PutEntry(t.Context(), pg.Operator("test"), policy.Entry{Kind: policy.EntryBlock, Match: policy.MatchSender, Value: "a@example.com", Owner: "soc", Reason: "a wave of junk"}); err != nil {
		t.Fatal(err)
	}
	mail := "From: a@example.com\nSubject: x\n\nnothing here\n"
	code, out, errs := command(t, mail, "scan", "--config", conf, "--to", "bob@ours.example", "--from", "b@example.net", "-")
	var v verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 1 {
		t.Fatalf("code %d, %v: %s%s", code, err, out, errs)
	}
	if len(v.Recipients) != 1 || v.Action != policy.Quarantine || v.Class != policy.Spam || !strings.Contains(fmt.Sprint(v.Recipients[0].Explain), "a wave of junk") {
		t.Errorf("%+v", v)
	}
	record := audit.New(db.DB, audit.Options{Log: slog.New(slog.DiscardHandler)})
	if _, err := intel.NewStore(db.DB, record, slog.New(slog.DiscardHandler)).Import(t.Context(), intel.Person{Actor: pg.Operator("test")}, "mine", strings.NewReader(`[{"value":"evil.example","class":"phishing","confidence":90}]`)); err != nil {
		t.Fatal(err)
	}
	code, out, errs = command(t, "From: c@example.com\nSubject: x\n\nhttps://www.evil.example/login\n", "scan", "--config", conf, "--to", "bob@ours.example", "-")
	if v = (verdict{}); json.Unmarshal([]byte(out), &v) != nil || code != 1 || v.Class != policy.Phishing || !strings.Contains(out, "INTEL_DOMAIN") {
		t.Errorf("an indicator: code %d, class %s: %s", code, v.Class, errs)
	}
	for _, args := range [][]string{{"--to", "bob@else.example"}, {"--to", "x@world.example", "--direction", "outbound"}} {
		if code, _, errs := command(t, mail, append(append([]string{"scan", "--config", conf}, args...), "-")...); code != 2 || !strings.Contains(errs, args[1]) {
			t.Errorf("%v: %d %q", args, code, errs)
		}
	}
}

// server runs `mailward serve` in this process.
type server struct {
	conf, smtp, http string
	out, err         buffer
	cancel           context.CancelFunc
	ended            chan int
}

func startServe(t *testing.T, dir, smtp, extra string) *server {
	t.Helper()
	s := &server{conf: filepath.Join(dir, "c.yaml"), smtp: smtp, http: testenv.FreeAddr(t), ended: make(chan int, 1)}
	s.write(t, dir, extra)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		s.ended <- run(ctx, env{args: []string{"serve", "--config", s.conf}, in: strings.NewReader(""), out: &s.out, err: &s.err})
	}()
	return s
}

func (s *server) write(t *testing.T, dir, extra string) {
	t.Helper()
	text := fmt.Sprintf("hostname: mx.ours.example\ndata_dir: %s\nsmtp: {listen: [%q]}\nhttp: {listen: %q}\n%s", filepath.Join(dir, "d"), s.smtp, s.http, extra)
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *server) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, "ready", func() bool {
		select {
		case code := <-s.ended:
			t.Fatalf("ended with %d:\n%s", code, s.err.String())
		default:
		}
		r, err := http.Get("http://" + s.http + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// firstEHLO is what the first client is offered.
func (s *server) firstEHLO(t *testing.T) string {
	t.Helper()
	var c net.Conn
	eventually(t, "the port is open", func() (ok bool) {
		var err error
		c, err = net.Dial("tcp", s.smtp)
		return err == nil
	})
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	r.ReadString('\n')
	fmt.Fprint(c, "EHLO x.example\r\n")
	var offers strings.Builder
	for {
		l, err := r.ReadString('\n')
		offers.WriteString(l)
		if err != nil || len(l) < 4 || l[3] == ' ' {
			return offers.String()
		}
	}
}

// rcpt asks whether mail for an address would be taken.
func (s *server) rcpt(t *testing.T, to string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	r.ReadString('\n')
	var reply string
	for _, line := range []string{"HELO x.example", "MAIL FROM:<a@example.com>", "RCPT TO:<" + to + ">"} {
		fmt.Fprintf(c, "%s\r\n", line)
		reply, _ = r.ReadString('\n')
	}
	return reply
}

func TestServe_WholeLife(t *testing.T) {
	testenv.Require(t, "redis-server", "clamd")
	sidecar, hop := testenv.Sidecar(t), testenv.NextHop(t)
	hop.Features("PIPELINING", "8BITMIME", "SIZE 104857600", "ENHANCEDSTATUSCODES", "DSN")
	dir := shortDir(t)
	extra := fmt.Sprintf("scanner: {socket: %q}\nbootstrap: {admin_email: boss@ours.example}\nrelay: {domains: {", sidecar.Address)
	s := startServe(t, dir, testenv.FreeAddr(t), extra+fmt.Sprintf("ours.example: %q}}\n", hop.Addr))
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			s.cancel()
			<-s.ended
		}
	})
	if r := s.firstEHLO(t); !strings.Contains(r, "DSN") {
		t.Errorf("what the next hop carries is not offered to the first client:\n%s", r)
	}
	s.waitReady(t)
	for _, want := range []string{"Web UI", "boss@ours.example", "one time", "only the EICAR test file"} {
		eventually(t, "the banner says "+want, func() bool { return strings.Contains(s.err.String(), want) })
	}

	if code, _, errs := command(t, "", "serve", "--config", s.conf); code != 1 || !strings.Contains(errs, "in use by another mailward") {
		t.Errorf("a second serve over the same folder: %d %q", code, errs)
	}
	if code, out, errs := command(t, "", "token", "create", "--role", "auditor", "--config", s.conf); code != 0 || !strings.HasPrefix(out, "mw_") || strings.Count(out, "\n") != 1 || errs != "" {
		t.Errorf("token create: %d %q %q", code, out, errs)
	}
	if code, out, errs := command(t, "", "doctor", "--ready", "--config", s.conf); code != 0 {
		t.Errorf("doctor --ready: %d %q %q", code, out, errs)
	}
	eventually(t, "events are streamed to standard output", func() bool { return strings.Contains(s.out.String(), `"action":"token.create"`) })
	for line := range strings.Lines(s.out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("standard output holds something that is no event: %q", line)
		}
	}
	if code, out, errs := command(t, "", "audit", "verify", "--config", s.conf); code != 0 || !strings.Contains(out, "none missing") {
		t.Errorf("audit verify: %d %q %q", code, out, errs)
	}
	checkBundle(t, s.conf, dir)

	if r := s.rcpt(t, "x@new.example"); !strings.HasPrefix(r, "550") {
		t.Errorf("a domain that is not ours: %q", r)
	}
	s.write(t, dir, extra+fmt.Sprintf("ours.example: %q, new.example: %q}}\n", hop.Addr, hop.Addr))
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	eventually(t, "SIGHUP brings the new domain", func() bool { return strings.HasPrefix(s.rcpt(t, "x@new.example"), "250") })
	eventually(t, "start and reload are on record", func() bool {
		_, out, _ := command(t, "", "audit", "export", "--action", "logging.start", "--config", s.conf)
		_, changed, _ := command(t, "", "audit", "export", "--action", "config.reload", "--config", s.conf)
		return strings.Contains(out, "relay/domains/ours.example") && strings.Contains(changed, "relay/domains/new.example")
	})
	s.write(t, dir, extra+"}}\nno_such_key: 1\n")
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	eventually(t, "a mistake is told", func() bool { return strings.Contains(s.err.String(), "unknown key no_such_key") })
	if r := s.rcpt(t, "x@new.example"); !strings.HasPrefix(r, "250") {
		t.Errorf("after a mistaken reload: %q", r)
	}

	s.cancel()
	stopped = true
	if code := <-s.ended; code != 0 {
		t.Errorf("ended with %d:\n%s", code, s.err.String())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "d", "pids", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// checkBundle exports from the running installation and checks that offline.
func checkBundle(t *testing.T, conf, dir string) {
	t.Helper()
	zip, kept := filepath.Join(dir, "audit.zip"), filepath.Join(dir, "kept.note")
	if code, out, errs := command(t, "", "audit", "export", zip, "--config", conf); code != 0 || !strings.Contains(out, "Check it with") {
		t.Fatalf("audit export: %d %q %q", code, out, errs)
	}
	if code, out, errs := command(t, "", "audit", "verify", zip); code != 0 || !strings.Contains(out, "Signed by mx.ours.example/audit+") {
		t.Errorf("audit verify BUNDLE: %d %q %q", code, out, errs)
	}
	eventually(t, "the export on record, before and after", func() bool {
		_, out, _ := command(t, "", "audit", "export", "--action", "audit.export", "--config", conf)
		return strings.Contains(out, `"phase":"intent"`) && strings.Contains(out, `"phase":"result"`)
	})
	if code, out, errs := command(t, "", "audit", "purge", "event_none", "--config", conf); code == 0 || !strings.Contains(errs, "--reason") {
		t.Errorf("audit purge without a reason: %d %q %q", code, out, errs)
	}
	if code, out, errs := command(t, "", "audit", "rotate-key", "--reason", "test", "--config", conf); code != 0 || !strings.Contains(out, "+") {
		t.Errorf("audit rotate-key: %d %q %q", code, out, errs)
	}
	if code, out, errs := command(t, "", "audit", "purge", "--config", conf); code != 0 || !strings.Contains(out, "sec-3y: kept 3 years") {
		t.Errorf("audit purge: %d %q %q", code, out, errs)
	}
	if code, _, errs := command(t, "", "audit", "reanchor", "--config", conf, "--reason", "test"); code != 0 {
		t.Errorf("audit reanchor: %d %q", code, errs)
	}
	b, err := os.ReadFile(zip)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(zip, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "", "audit", "verify", zip); code != 1 && code != 2 {
		t.Errorf("audit verify of a changed bundle: %d %q %q", code, out, errs)
	}
	if err := os.WriteFile(kept, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"audit", "verify", filepath.Join(dir, "none.zip")}, {"audit", "verify", zip, "--checkpoint", kept}, {"audit", "verify", zip, "--key", "x"}} {
		if code, out, errs := command(t, "", args...); code != 2 {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
}

// An address in use is a failure to start that leaves nothing running.
func TestServe_AddressInUse(t *testing.T) {
	testenv.Require(t, "redis-server", "clamd")
	sidecar := testenv.Sidecar(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := shortDir(t)
	s := startServe(t, dir, l.Addr().String(), fmt.Sprintf("scanner: {socket: %q}\n", sidecar.Address))
	defer s.cancel()
	if code := <-s.ended; code != 1 || !strings.Contains(s.err.String(), "mailward: listen for SMTP") {
		t.Errorf("ended with %d:\n%s", code, s.err.String())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "d", "pids", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
