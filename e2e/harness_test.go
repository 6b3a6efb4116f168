package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailward/internal/testenv"

	"github.com/jackc/pgx/v5"
)

const (
	adminEmail    = "admin@ours.example"
	adminPassword = "correct horse battery staple 7"
	ourDomain     = "ours.example"
	// startLimit is generous: initdb, migrations and clamd share two cores with
	// whatever else the machine does.
	startLimit = 90 * time.Second
)

// binDir holds the two programs.
var binDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	for _, name := range []string{"mailward", "mailward-scanner"} {
		path, err := testenv.Program(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		binDir = filepath.Dir(path)
	}
	return testenv.Main(m)
}

// server is one installation: a data folder, a configuration, and the process
// that may be stopped and started over it.
type server struct {
	t        *testing.T
	dir      string
	conf     string
	smtp     string
	env      []string // beside ours, for every command
	http     string
	mu       sync.Mutex // guards cmd, logs
	cmd      *exec.Cmd
	exited   chan struct{}
	out, err bytes.Buffer
}

// newServer writes the configuration of an installation whose next hop is hop.
// It starts nothing.
func newServer(t *testing.T, hop string, extra string) *server {
	t.Helper()
	// Unix socket paths are short: t.TempDir() would be too long.
	dir, err := os.MkdirTemp("", "mw")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: filepath.Join(dir, "d"), conf: filepath.Join(dir, "mailward.yaml"), smtp: testenv.FreeAddr(t), http: testenv.FreeAddr(t)}
	testenv.Cluster(t, s.dir)
	text := fmt.Sprintf(`hostname: mx.ours.example
data_dir: %s
smtp: {listen: ["%s"]}
relay: {domains: {%s: "%s"}}
http: {listen: "%s"}
quarantine: {take_back: 1s}
bootstrap: {admin_email: %s, admin_password: "%s", four_eyes: single_operator}
%s`, s.dir, s.smtp, ourDomain, hop, s.http, adminEmail, adminPassword, extra)
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("log of mailward serve (data kept in %s):\n%s", dir, tail(s.err.String(), 60))
			return
		}
		os.RemoveAll(dir)
	})
	return s
}

// startServer is newServer, started and ready.
func startServer(t *testing.T, hop, extra string) *server {
	t.Helper()
	s := newServer(t, hop, extra)
	s.start()
	return s
}

func (s *server) start() {
	s.t.Helper()
	s.launch()
	s.waitReady()
}

func (s *server) launch() {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(binDir, "mailward"), "serve", "--config", s.conf)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout, cmd.Stderr = &lockedWriter{mu: &s.mu, w: &s.out}, &lockedWriter{mu: &s.mu, w: &s.err}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.exited = cmd, make(chan struct{})
	go func(c *exec.Cmd, done chan struct{}) { c.Wait(); close(done) }(cmd, s.exited)
}

func (s *server) waitReady() {
	s.t.Helper()
	deadline := time.Now().Add(startLimit)
	for time.Now().Before(deadline) {
		select {
		case <-s.exited:
			s.t.Fatalf("mailward serve ended before it was ready:\n%s", tail(s.stderr(), 40))
		default:
		}
		if code, _ := s.get("/readyz"); code == 200 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("not ready after %v:\n%s", startLimit, tail(s.stderr(), 40))
}

// stop ends the server as an operator would, and fails the test if it does not end.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(60 * time.Second):
		s.t.Errorf("mailward serve did not end within 60 s of SIGTERM")
		s.cmd.Process.Kill()
		<-s.exited
	}
	s.cmd = nil
}

// kill ends the process with no warning at all.
func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-s.exited
	s.cmd = nil
}

func (s *server) stderr() string { s.mu.Lock(); defer s.mu.Unlock(); return s.err.String() }
func (s *server) stdout() string { s.mu.Lock(); defer s.mu.Unlock(); return s.out.String() }

func (s *server) get(path string) (int, string) {
	c := &http.Client{Timeout: 5 * time.Second}
	r, err := c.Get("http://" + s.http + path)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	return r.StatusCode, string(b)
}

// db is a superuser's connection, as root gets it with psql on the host.
func (s *server) db() *pgx.Conn {
	s.t.Helper()
	c, err := s.dbAs("postgres")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func (s *server) dbAs(user string) (*pgx.Conn, error) {
	return pgx.Connect(context.Background(), fmt.Sprintf("host=%s/run user=%s dbname=mailward connect_timeout=5", s.dir, user))
}

// command runs a subcommand against this installation and returns its output.
func (s *server) command(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(binDir, "mailward"), append(args, "--config", s.conf)...)
	cmd.Env = append(os.Environ(), s.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("mailward %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// api is a client of the HTTP API with one token.
type api struct {
	s     *server
	token string
}

func (s *server) api(role string) *api {
	s.t.Helper()
	return &api{s: s, token: s.command("token", "create", "--role", role)}
}

// do sends a request and decodes the answer into out, which may be nil.
func (a *api) do(method, path string, body, out any) int {
	a.s.t.Helper()
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			a.s.t.Fatal(err)
		}
		rd = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://"+a.s.http+"/api/v1/"+path, rd)
	if err != nil {
		a.s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	r, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		a.s.t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	switch o := out.(type) {
	case nil:
	case *[]byte:
		*o = b
	default:
		if err := json.Unmarshal(b, out); err != nil {
			a.s.t.Fatalf("%s %s: %d %s: %v", method, path, r.StatusCode, b, err)
		}
	}
	return r.StatusCode
}

// item is what the API says of a quarantined mail.
type item struct {
	ID           string          `json:"id"`
	MailID       string          `json:"mail_id"`
	Class        string          `json:"class"`
	State        string          `json:"state"`
	EnvelopeFrom string          `json:"envelope_from"`
	Subject      string          `json:"subject"`
	Recipients   json.RawMessage `json:"recipients"`
	Findings     []struct {
		Engine string `json:"engine"`
		Name   string `json:"name"`
		Class  string `json:"class"`
	} `json:"findings"`
}

// itemBySubject waits for the one quarantined mail with this subject.
func (a *api) itemBySubject(subject string) item {
	a.s.t.Helper()
	var found item
	eventually(a.s.t, 10*time.Second, "a quarantine item with subject "+subject, func() bool {
		var page struct {
			Items []item `json:"items"`
		}
		a.do("GET", "quarantine?limit=200", nil, &page)
		for _, it := range page.Items {
			if it.Subject == subject {
				found = it
				return true
			}
		}
		return false
	})
	return found
}

// smtpClient speaks raw SMTP, so that a test decides on every byte.
type smtpClient struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dialSMTP(t *testing.T, addr string) *smtpClient {
	t.Helper()
	c, err := dialSMTPErr(addr)
	if err != nil {
		t.Fatal(err)
	}
	c.t = t
	t.Cleanup(func() { c.conn.Close() })
	return c
}

func dialSMTPErr(addr string) (*smtpClient, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &smtpClient{conn: conn, r: bufio.NewReader(conn)}
	if _, err := c.reply(); err != nil {
		conn.Close()
		return nil, err
	}
	if _, err := c.send("EHLO client.example\r\n"); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// reply reads one reply, of one or several lines, without its line ends.
func (c *smtpClient) reply() (string, error) {
	var lines []string
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			return strings.Join(lines, "\n"), err
		}
		l = strings.TrimRight(l, "\r\n")
		lines = append(lines, l)
		if len(l) < 4 || l[3] != '-' {
			return strings.Join(lines, "\n"), nil
		}
	}
}

func (c *smtpClient) send(s string) (string, error) {
	if _, err := io.WriteString(c.conn, s); err != nil {
		return "", err
	}
	return c.reply()
}

// mail runs one transaction and returns the last reply. The message is sent
// dot-stuffed, its bytes otherwise as they are.
func (c *smtpClient) mail(from string, to []string, msg []byte) (string, error) {
	if r, err := c.send("MAIL FROM:<" + from + ">\r\n"); err != nil || code(r) != 250 {
		return r, err
	}
	for _, rcpt := range to {
		if r, err := c.send("RCPT TO:<" + rcpt + ">\r\n"); err != nil || code(r) != 250 {
			return r, err
		}
	}
	if r, err := c.send("DATA\r\n"); err != nil || code(r) != 354 {
		return r, err
	}
	w := bufio.NewWriter(c.conn)
	if bytes.HasPrefix(msg, []byte(".")) {
		w.WriteByte('.')
	}
	w.Write(bytes.ReplaceAll(msg, []byte("\r\n."), []byte("\r\n..")))
	if !bytes.HasSuffix(msg, []byte("\r\n")) {
		w.WriteString("\r\n")
	}
	w.WriteString(".\r\n")
	if err := w.Flush(); err != nil {
		return "", err
	}
	return c.reply()
}

// sendMail is one mail on a connection of its own.
func (s *server) sendMail(from string, to []string, msg []byte) string {
	s.t.Helper()
	c := dialSMTP(s.t, s.smtp)
	r, err := c.mail(from, to, msg)
	if err != nil {
		s.t.Fatalf("send mail: %v (reply so far %q)", err, r)
	}
	c.send("QUIT\r\n")
	return r
}

func code(reply string) int {
	if len(reply) < 3 {
		return 0
	}
	n, _ := strconv.Atoi(reply[:3])
	return n
}

// eventually waits for a condition and fails the test if it does not come.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still no %s", limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// childPIDs lists the processes whose command line matches, below this
// installation's data folder.
func (s *server) childPIDs(pattern string) []int {
	re := regexp.MustCompile(pattern)
	var pids []int
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range procs {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		line := strings.ReplaceAll(string(b), "\x00", " ")
		if strings.Contains(line, s.dir) && re.MatchString(line) {
			pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// withChildren adds the processes that these have started.
func withChildren(pids []int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
		if parent, err := strconv.Atoi(fields[1]); err == nil && slices.Contains(pids, parent) && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
