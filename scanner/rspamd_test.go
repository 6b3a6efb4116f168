package scanner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/internal/message"
	"mailward/internal/testenv"
	"mailward/policy"
)

// startRspamd starts a real rspamd with Debian's configuration, less what asks
// the network or Redis, and says how to stop it.
func startRspamd(t *testing.T) (url string, stop func()) {
	t.Helper()
	bin, err := exec.LookPath("rspamd")
	if err != nil {
		testenv.Missing(t, err)
	}
	dir, err := os.MkdirTemp("", "mwrs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, m := range []string{"asn", "arc", "bimi", "dcc", "dkim", "dkim_signing", "dmarc", "fuzzy_check", "greylist", "hfilter", "history_redis", "mx_check", "neural", "once_received", "phishing", "ratelimit", "rbl", "replies", "reputation", "spf", "surbl", "url_redirector", "whitelist", "known_senders", "mid", "elastic", "clickhouse", "metric_exporter"} {
		write("etc/local.d/"+m+".conf", "enabled = false;\n")
	}
	write("etc/local.d/options.inc", "dns { nameserver = [\"127.0.0.1:1:1\"]; timeout = 0.1s; retransmits = 1; }\nmap_watch_interval = 1d;\nlocal_addrs = [];\n")
	write("etc/local.d/worker-normal.inc", fmt.Sprintf("bind_socket = %q; count = 1;\n", addr))
	write("etc/local.d/worker-proxy.inc", "enabled = false;\n")
	write("etc/local.d/worker-controller.inc", "enabled = false;\n")
	write("etc/local.d/worker-fuzzy.inc", "enabled = false;\n")
	write("etc/local.d/logging.inc", fmt.Sprintf("type = \"file\"; filename = \"%s/log\"; level = \"error\";\n", dir))
	for _, d := range []string{"db", "run", "etc/maps.d", "etc/override.d"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "-R", "_rspamd:_rspamd", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(bin, "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", "/etc/rspamd/rspamd.conf", "--var=LOCAL_CONFDIR="+dir+"/etc", "--var=DBDIR="+dir+"/db", "--var=RUNDIR="+dir+"/run", "--var=LOGDIR="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() }
	t.Cleanup(stop)
	url = "http://" + addr
	for end := time.Now().Add(4 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := NewRspamd(RspamdConfig{URL: url}).Check(t.Context()); err == nil {
			return url, stop
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("rspamd does not start:\n%s\n%s", out.String(), log)
		}
	}
}

// gtube is the test mail of spam filters, in two pieces.
const gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

func TestRspamd(t *testing.T) {
	t.Parallel()
	url, stop := startRspamd(t)
	r := NewRspamd(RspamdConfig{URL: url})
	job := func(mail string) Job {
		id := uuid.New()
		return Job{MailID: id, Spool: spool(t, []byte(mail)), Envelope: message.Envelope{ID: id, From: "a@sender.example", Recipients: []string{"b@x.example", "c@x.example"}, Helo: "mx.sender.example", ClientIP: netip.MustParseAddr("192.0.2.1")}}
	}
	a, err := r.Scan(t.Context(), job(mailHead+"\r\n"+gtube+"\r\n"))
	if err != nil || len(a.Findings) != 1 || !strings.HasPrefix(a.Info.Version, "rspamd") {
		t.Fatalf("%+v, %v", a, err)
	}
	f := a.Findings[0]
	if f.Engine != "rspamd" || f.Class != "" || f.Score < policy.DefaultThresholds().Spam || f.Meta["action"] != "reject" || !strings.Contains(f.Reason, "points") {
		t.Errorf("%+v", f)
	}
	plain, err := r.Scan(t.Context(), job(mailHead+"\r\nhello, shall we meet on Monday?\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range plain.Findings {
		if f.Score >= policy.DefaultThresholds().Spam {
			t.Errorf("an ordinary mail: %+v", f)
		}
	}
	stop()
	if _, err := r.Scan(t.Context(), job(mailHead+"\r\nhello\r\n")); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), url) {
		t.Errorf("a dead rspamd: %v", err)
	}
}

// No answer that is not a whole verdict counts as one.
func TestRspamd_Answers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		body   string
		score  float64 // of the sign; 0: none
		fails  bool
	}{
		"a score":               {200, `{"score": 3, "action": "no action", "symbols": {"A": {"score": 2}, "B": {"score": 1.5}, "GOOD": {"score": -0.5}}}`, 2.5, false},
		"nothing found":         {200, `{"score": 0, "action": "no action", "symbols": {}}`, 0, false},
		"wanted":                {200, `{"score": -7.5, "action": "no action"}`, 0, false},
		"rejected at once":      {200, `{"is_skipped": true, "score": 12, "action": "reject"}`, 10, false},
		"no score":              {200, `{"action": "no action"}`, 0, true},
		"an error":              {200, `{"error": "cannot process", "score": 0}`, 0, true},
		"an error status":       {500, `{"error": "no"}`, 0, true},
		"a wrong password":      {401, `{"score": 0}`, 0, true},
		"sent elsewhere":        {302, ``, 0, true},
		"no JSON":               {200, `<html>`, 0, true},
		"cut off":               {200, `{"score": 1`, 0, true},
		"too long":              {200, `{"score": 1, "x": "` + strings.Repeat("x", rspamdReply) + `"}`, 0, true},
		"a score that is none":  {200, `{"score": "high"}`, 0, true},
		"names out of the wild": {200, `{"score": 6, "symbols": {"` + strings.Repeat("é", 100) + `": {"score": 6}}}`, 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got http.Header
			var body []byte
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				got = req.Header
				body, _ = io.ReadAll(req.Body)
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			}))
			defer srv.Close()
			mail := mailHead + "\r\nhello\r\n"
			id := uuid.New()
			a, err := NewRspamd(RspamdConfig{URL: srv.URL + "/", Password: "secret"}).Scan(context.Background(), Job{MailID: id, Spool: spool(t, []byte(mail)),
				Envelope: message.Envelope{From: "a@sender.example\r\nIP: 1.2.3.4", Recipients: []string{"b@x.example"}}})
			if (err != nil) != tt.fails {
				t.Fatalf("%+v, %v", a, err)
			}
			if string(body) != mail || got.Get("Password") != "secret" || got.Get("Queue-Id") != id.String() || got.Get("Rcpt") != "b@x.example" || got.Get("From") != "" {
				t.Errorf("it heard %v and %q", got, body)
			}
			var score float64
			for _, f := range a.Findings {
				score += f.Score
			}
			if score != tt.score {
				t.Errorf("score %v, want %v: %+v", score, tt.score, a.Findings)
			}
		})
	}
}
