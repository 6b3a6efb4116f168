package channel

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"mailward/alerting/rule"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

var spike = Alert{ID: uuid.MustParse("0195a000-0000-7000-8000-000000000001"), Name: "Phishing <!channel> *spike*", Notice: rule.Alarmed, Severity: rule.Critical, Subject: "ours.example",
	Metric: "phishing_rate_5min", Compare: rule.Above, Threshold: 30, Value: 41, Has: true, Since: time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC), At: time.Date(2026, 3, 3, 12, 0, 10, 0, time.UTC), Runbook: "https://wiki.example/p"}

func sender(cfg Config) *Sender {
	if cfg.Hostname == "" {
		cfg.Hostname, cfg.PublicURL, cfg.From, cfg.AllowPrivate = "mx.ours.example", "https://mail.ours.example", "mailward@mx.ours.example", loopback
	}
	return NewSender(cfg)
}

// double answers as the contract of a service says, and keeps what it was sent.
type double struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	heads  []http.Header
}

func newDouble(t *testing.T, answer func(w http.ResponseWriter, body string)) *double {
	t.Helper()
	d := &double{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		d.mu.Lock()
		d.bodies, d.heads = append(d.bodies, string(b)), append(d.heads, r.Header)
		d.mu.Unlock()
		answer(w, string(b))
	}))
	t.Cleanup(d.Close)
	return d
}

func say(status int, body string, head ...string) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, _ string) {
		for i := 0; i+1 < len(head); i += 2 {
			w.Header().Set(head[i], head[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// like is a service that looks at what it gets.
func like(check func(body map[string]any) (int, string)) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, body string) {
		var m map[string]any
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		status, text := check(m)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func slackService(m map[string]any) (int, string) {
	blocks, _ := m["blocks"].([]any)
	if m["text"] == "" || m["text"] == nil {
		return 400, "no_text"
	}
	if len(blocks) == 0 || len(blocks) > 50 || m["unfurl_links"] != false {
		return 400, "invalid_blocks"
	}
	return 200, "ok"
}

func teamsService(m map[string]any) (int, string) {
	list, ok := m["attachments"].([]any)
	if !ok || len(list) != 1 || m["type"] != "message" {
		return 400, `{"error":{"code":"TriggerInputSchemaMismatch"}}`
	}
	card, _ := list[0].(map[string]any)["content"].(map[string]any)
	if card["type"] != "AdaptiveCard" || list[0].(map[string]any)["contentType"] != "application/vnd.microsoft.card.adaptive" {
		return 400, "bad card"
	}
	return 202, ""
}

func pagerService(m map[string]any) (int, string) {
	p, _ := m["payload"].(map[string]any)
	act := m["event_action"]
	if m["routing_key"] != "R0UTE" || act != "resolve" && (act != "trigger" || p["summary"] == "" || p["source"] == "" || p["severity"] != "critical") {
		return 400, `{"status":"invalid event","message":"Event object is invalid"}`
	}
	return 202, `{"status":"success","message":"Event processed","dedup_key":"x"}`
}

func TestSend_AsTheContractsSay(t *testing.T) {
	t.Parallel()
	key := make([]byte, 32)
	secret := hookPrefix + base64.StdEncoding.EncodeToString(key)
	tests := []struct {
		name, kind string
		answer     func(http.ResponseWriter, string)
		want       string // "", permanent, or temporary
		after      time.Duration
	}{
		{"slack", Slack, like(slackService), "", 0},
		{"slack, compatible server", Slack, say(200, `{"ok":true}`), "", 0},
		{"slack, no in a 200", Slack, say(200, `{"ok":false,"error":"invalid_blocks"}`), "permanent", 0},
		{"slack, gone", Slack, say(404, "no_service"), "permanent", 0},
		{"slack, too much", Slack, say(429, "", "Retry-After", "30"), "temporary", 30 * time.Second},
		{"slack, rollup", Slack, say(500, "rollup_error"), "temporary", 0},
		{"teams", Teams, like(teamsService), "", 0},
		{"teams, old throttling", Teams, say(200, "Microsoft Teams endpoint returned HTTP error 429"), "temporary", 0},
		{"teams, signature over", Teams, say(401, ""), "permanent", 0},
		{"webhook", Webhook, say(204, ""), "", 0},
		{"webhook, redirect", Webhook, say(302, "", "Location", "http://127.0.0.1:1/"), "permanent", 0},
		{"webhook, gone", Webhook, say(410, ""), "permanent", 0},
		{"webhook, bad gateway", Webhook, say(502, ""), "temporary", 0},
		{"webhook, waits an hour at most", Webhook, say(503, "", "Retry-After", "864000"), "temporary", time.Hour},
		{"pagerduty", PagerDuty, like(pagerService), "", 0},
		{"pagerduty, limit", PagerDuty, say(429, ""), "temporary", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDouble(t, tt.answer)
			c := Channel{Name: "soc", Kind: tt.kind, Target: d.URL, Language: "en", Secret: d.URL}
			if tt.kind == Webhook {
				c.Secret = secret
			} else if tt.kind == PagerDuty {
				c.Secret = "R0UTE"
			}
			ended := spike
			ended.Notice = rule.Ended
			err := sender(Config{}).Send(t.Context(), c, uuid.New(), Message{Alerts: []Alert{spike, ended}})
			var f *FailedError
			errors.As(err, &f)
			if (f == nil) != (tt.want == "") || f != nil && (f.Permanent != (tt.want == "permanent") || f.After != tt.after) {
				t.Errorf("got %+v, want %q", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), d.URL) || strings.Contains(err.Error(), secret)) {
				t.Errorf("the error tells the secret: %v", err)
			}
			if len(d.bodies) == 0 || strings.Contains(tt.kind, Slack) && strings.Contains(d.bodies[0], "<!channel>") {
				t.Errorf("sent %q", d.bodies)
			}
		})
	}
}

func TestWebhook_SignatureIsOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	// The vector of the reference libraries.
	keys, err := hookKeys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := hookSignature(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	d := newDouble(t, say(200, ""))
	old, young := make([]byte, 24), []byte(strings.Repeat("k", 32))
	enc := base64.StdEncoding.EncodeToString
	id := uuid.New()
	c := Channel{Kind: Webhook, Target: d.URL, Secret: hookPrefix + enc(young) + " " + hookPrefix + enc(old)}
	if err := sender(Config{}).Send(t.Context(), c, id, Message{Alerts: []Alert{spike}}); err != nil {
		t.Fatal(err)
	}
	h := d.heads[0]
	for i, key := range [][]byte{young, old} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + d.bodies[0]))
		if sig := strings.Fields(h.Get("webhook-signature")); len(sig) != 2 || sig[i] != "v1,"+enc(mac.Sum(nil)) || h.Get("webhook-id") != id.String() {
			t.Errorf("signature %d of %v is not right", i, sig)
		}
	}
	for _, bad := range []string{"", "whsec_", "whsec_AAAA", "secret"} {
		var f *FailedError
		if _, err := hookKeys(bad); !errors.As(err, &f) || !f.Permanent {
			t.Errorf("secret %q: %v", bad, err)
		}
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1": false, "::1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "fe80::1": false, "fd00::1": false,
		"0.0.0.0": false, "::": false, "100.64.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "198.18.0.1": false, "8.8.8.8": true, "2606:4700::1111": true, "1.1.1.1": true,
	} {
		if got := public(netip.MustParseAddr(addr)); got != want {
			t.Errorf("public(%s) = %v", addr, got)
		}
	}
	// Names are judged by where they lead, at the moment of dialling.
	d := newDouble(t, say(200, "ok"))
	_, port, _ := net.SplitHostPort(d.Listener.Addr().String())
	for _, target := range []string{d.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port, "http://127.1:" + port, "file:///etc/passwd", "gopher://x", "http://"} {
		s := NewSender(Config{Hostname: "h"})
		err := s.Send(t.Context(), Channel{Kind: Slack, Secret: target}, uuid.New(), Message{Alerts: []Alert{spike}})
		if err == nil {
			t.Errorf("%s was reached", target)
		}
	}
	var f *FailedError
	err := NewSender(Config{Hostname: "h"}).Send(t.Context(), Channel{Kind: Syslog, Target: "tcp://" + d.Listener.Addr().String()}, uuid.New(), Message{Alerts: []Alert{spike}})
	if !errors.As(err, &f) || !f.Permanent || len(d.bodies) != 0 {
		t.Errorf("syslog to the loopback: %v; %d calls came", err, len(d.bodies))
	}
}

// postbox takes mails.
type postbox struct {
	from string
	to   []string
	raw  []byte
}

func (p *postbox) Mail(_ context.Context, from string, to []string, raw []byte) error {
	p.from, p.to, p.raw = from, to, raw
	return nil
}

func TestEmail(t *testing.T) {
	t.Parallel()
	for lang, words := range map[string][]string{"en": {"Alert: ", "Open quarantine", "above 30"}, "de": {"Alarm: ", "Quarantäne öffnen", "über 30"}} {
		box := &postbox{}
		s := sender(Config{})
		s.cfg.Mailer = box
		hostile := spike
		hostile.Name = "Phishing\r\nBcc: evil@x.example <b>ü</b>"
		err := s.Send(t.Context(), Channel{Kind: Email, Target: "soc@ours.example, cio@ours.example", Language: lang}, uuid.New(), Message{Alerts: []Alert{hostile}})
		if err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(strings.NewReader(string(box.raw)))
		if err != nil || m.Header.Get("Bcc") != "" || m.Header.Get("Auto-Submitted") != "auto-generated" || len(box.to) != 2 || strings.Contains(strings.ReplaceAll(string(box.raw), "\r\n", ""), "\n") {
			t.Fatalf("%v\n%s", err, box.raw)
		}
		c := Channel{Language: lang}
		text, page := s.text(wordsIn(lang), c, Message{Alerts: []Alert{hostile}}), s.html(wordsIn(lang), c, Message{Alerts: []Alert{hostile}})
		for _, want := range append(words, "ours.example", "/quarantine?class=phishing&", "/alerts/"+spike.ID.String(), "https://wiki.example/p") {
			if !strings.Contains(text, want) || !strings.Contains(page, strings.ReplaceAll(want, "&", "&amp;")) {
				t.Errorf("%s: %q is missing in\n%s\n%s", lang, want, text, page)
			}
		}
		if strings.Contains(page, "<b>") {
			t.Error("a name came through as HTML")
		}
	}
	for _, bad := range []string{"", "x", "a@b\r\nBcc: c@d", "Bob <a@b.example>"} {
		if _, err := Recipients(bad); err == nil {
			t.Errorf("recipients %q were taken", bad)
		}
	}
}

func wordsIn(lang string) words { return words{lang} }

func TestFacts_SayWhoHasTheMail(t *testing.T) {
	t.Parallel()
	a := spike
	a.Hits = []Hit{{Class: "malware", Found: []string{"Emotet"}, Holders: []HitHolder{{Address: "anna@ours.example", Seconds: 3*3600 + 120}, {Address: "bob@ours.example", Seconds: 50}}}, {}, {}, {}, {}}
	a.Hits[1] = Hit{Class: "malware", Holders: make([]HitHolder, 7), More: 30}
	for lang, want := range map[string][]string{
		"en": {"anna@ours.example (3 h 2 min before it was found), bob@ours.example (50 s before it was found): malware, Emotet", "and 32 more: malware", "and 2 more"},
		"de": {"anna@ours.example (3 h 2 min vor dem Fund), bob@ours.example (50 s vor dem Fund): malware, Emotet", "und 32 weitere: malware", "und 2 weitere"},
	} {
		list := words{lang}.facts(a)
		list = list[len(list)-4:]
		if list[0].value != want[0] || !strings.HasSuffix(list[1].value, want[1]) || list[3].value != want[2] {
			t.Errorf("%q", list)
		}
		if n := len(words{lang}.facts(a)); n > 10 {
			t.Errorf("%d facts, and Slack takes 10", n)
		}
	}
}

// TestLinks_LateHits: an alarm about mail that was found bad after it was delivered
// leads to what was found, over each channel.
func TestLinks_LateHits(t *testing.T) {
	t.Parallel()
	item := uuid.MustParse("0195a000-0000-7000-8000-00000000000a")
	hits := []Hit{{Item: item, Class: "malware", Found: []string{"Emotet"}}}
	late, sandbox, unknown := spike, spike, spike
	late.Metric, late.Hits = "coverage_late_hits", hits
	sandbox.Metric, sandbox.Hits = "sandbox_late_malicious", hits
	unknown.Metric = "sandbox_late_malicious"
	const list, mail = "https://mail.ours.example/health/coverage#late", "https://mail.ours.example/quarantine/0195a000-0000-7000-8000-00000000000a"
	key := hookPrefix + base64.StdEncoding.EncodeToString(make([]byte, 32))
	for kind, c := range map[string]struct {
		service func(map[string]any) (int, string)
		secret  string
		before  string // the link, as the message has it
	}{
		Slack: {slackService, "", `"url":"`}, Teams: {teamsService, "", `"url":"`}, PagerDuty: {pagerService, "R0UTE", `"href":"`},
		Webhook: {func(map[string]any) (int, string) { return 200, "" }, key, `"late_hits":"`},
	} {
		d := newDouble(t, like(c.service))
		ch := Channel{Kind: kind, Name: "x", Target: d.URL, Secret: c.secret, Language: "de"}
		if c.secret == "" {
			ch.Secret = d.URL
		}
		s := sender(Config{})
		for _, a := range []Alert{late, sandbox, unknown, spike} {
			if err := s.Send(t.Context(), ch, uuid.New(), Message{Alerts: []Alert{a}}); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
		}
		for i, want := range []string{c.before + list + `"`, strings.Replace(c.before, "late_hits", "mail", 1) + mail + `"`} {
			if !strings.Contains(d.bodies[i], want) {
				t.Errorf("%s lacks %s: %s", kind, want, d.bodies[i])
			}
			if strings.Contains(d.bodies[2]+d.bodies[3]+d.bodies[1-i], want) {
				t.Errorf("%s: %s is in an alarm that it does not belong to", kind, want)
			}
		}
		s.Close()
	}
	s := sender(Config{})
	text, page := s.text(words{"de"}, Channel{}, Message{Alerts: []Alert{late}}), s.html(words{"de"}, Channel{}, Message{Alerts: []Alert{late}})
	if !strings.Contains(text, "Späte Treffer öffnen: "+list+"\n") || !strings.Contains(page, `href="`+list+`">Späte Treffer öffnen</a>`) {
		t.Errorf("%s\n%s", text, page)
	}
	s.cfg.PublicURL = ""
	if l := s.pages(words{"en"}, late); l != nil {
		t.Errorf("links without an address of ours: %v", l)
	}
}

func TestTexts_BothLanguagesSayTheSame(t *testing.T) {
	t.Parallel()
	en, de := slices.Sorted(maps.Keys(texts["en"])), slices.Sorted(maps.Keys(texts["de"]))
	if !slices.Equal(en, de) {
		t.Errorf("keys differ:\n%v\n%v", en, de)
	}
}

func TestWazuh(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "alerts.json")
	s := sender(Config{})
	s.cfg.File = path
	for range 2 {
		if err := s.Send(t.Context(), Channel{Kind: Wazuh, Name: "w"}, uuid.New(), Message{Alerts: []Alert{spike, spike}}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if err != nil || len(lines) != 4 {
		t.Fatalf("%v: %q", err, b)
	}
	var got struct {
		Mailward struct {
			Schema string
			Alert  struct{ Severity, Subject, Notice string }
		}
	}
	if err := json.Unmarshal([]byte(lines[3]), &got); err != nil || got.Mailward.Schema != "gw-alert/1" || got.Mailward.Alert.Severity != "critical" || got.Mailward.Alert.Subject != "ours.example" {
		t.Errorf("%v: %+v", err, got)
	}
	many := spike
	many.Hits = []Hit{{Class: "malware", Holders: make([]HitHolder, maxLine/40)}} // more than a line holds: the alarm goes out without
	if err := s.Send(t.Context(), Channel{Kind: Wazuh}, uuid.New(), Message{Alerts: []Alert{many}}); err != nil {
		t.Errorf("an alarm with many recipients: %v", err)
	}
	if err := os.Truncate(path, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), Channel{Kind: Wazuh}, uuid.New(), Message{Test: true, Note: "me"}); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(path + ".1"); err != nil || i.Size() != maxFile+1 {
		t.Errorf("not rotated: %v", err)
	}
	var f *FailedError
	if err := sender(Config{}).Send(t.Context(), Channel{Kind: Wazuh}, uuid.New(), Message{Alerts: []Alert{spike}}); !errors.As(err, &f) || !f.Permanent {
		t.Errorf("without a file: %v", err)
	}
}

func TestSyslog(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		b, _ := io.ReadAll(c)
		c.Close()
		got <- string(b)
	}()
	if err := sender(Config{}).Send(t.Context(), Channel{Kind: Syslog, Target: "tcp://" + l.Addr().String()}, uuid.New(), Message{Alerts: []Alert{spike}}); err != nil {
		t.Fatal(err)
	}
	text := <-got
	n, rest, _ := strings.Cut(text, " ")
	if n != itoa(len(rest)) || !strings.HasPrefix(rest, "<130>1 ") || !strings.Contains(rest, ` alert - {"mailward":`) {
		t.Errorf("got %q", text)
	}
	for _, bad := range []string{"", "logs:514", "http://x:1", "tls://x", "tls://u@x:1", "tls://x:1/p"} {
		if _, _, err := SyslogTarget(bad); err == nil {
			t.Errorf("target %q was taken", bad)
		}
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// A storm fits into what the services take.
func TestSend_ManyAlerts(t *testing.T) {
	t.Parallel()
	var many []Alert
	for range 60 {
		a := spike
		a.Name, a.Subject = strings.Repeat("<long *name* ", 8), strings.Repeat("sub.", 20)+"ours.example"
		many = append(many, a)
	}
	for kind, service := range map[string]func(map[string]any) (int, string){Slack: slackService, Teams: teamsService} {
		d := newDouble(t, like(service))
		if err := sender(Config{}).Send(t.Context(), Channel{Kind: kind, Secret: d.URL}, uuid.New(), Message{Alerts: many}); err != nil || len(d.bodies[0]) > 28<<10 {
			t.Errorf("%s: %v, %d bytes", kind, err, len(d.bodies[0]))
		}
	}
}
