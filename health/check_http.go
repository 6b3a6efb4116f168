package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// answerLimit bounds what is read of an answer.
	answerLimit = 1 << 20
	// slowService is when a service is spoken of as slow; it is given up at CheckLimit.
	slowService = time.Second
	// tlsSoon is how long before its end a certificate is spoken of.
	tlsSoon = 14 * 24 * time.Hour
	// servicePace is how often a service is asked where nothing else is said.
	servicePace = 10 * time.Second
)

// Service is something that is asked one question over HTTP.
type Service struct {
	Name, Title string
	URL, Method string            // GET where empty
	Header      map[string]string // values may be secret: they are shown nowhere
	Status      []int             // the good ones; empty: 200 to 299
	Body        string            // what the answer has to hold
	Roots       *x509.CertPool    // to believe; nil: the system's
	Every       time.Duration     // 10 s where zero
	Meaning     Text
	// judge reads a good answer further; it may be nil.
	judge func(body []byte) Result
}

// HTTP checks a service: that it takes what we show, and says what it should. A
// good status is not enough: many say what is wrong in the body of a 200.
func HTTP(s Service) Component {
	if s.Method == "" {
		s.Method = http.MethodGet
	}
	if s.Every == 0 {
		s.Every = servicePace
	}
	if len(s.Meaning) == 0 {
		s.Meaning = say("m.service")
	}
	client := Client(s.Roots)
	return Component{
		Name: s.Name, Title: s.Title, Group: "integrations", Effect: Weakens, Meaning: s.Meaning, Every: s.Every,
		Check: func(ctx context.Context) Result { return s.ask(ctx, client) },
	}
}

// Client makes a connection for each question, so that a certificate that has
// run out meanwhile is seen, and follows nobody elsewhere with our key.
func Client(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (s *Service) titled() string { return titled(s.Name, s.Title) }

func (s *Service) ask(ctx context.Context, client *http.Client) Result {
	req, err := http.NewRequestWithContext(ctx, s.Method, s.URL, nil)
	if err != nil {
		return Result{State: Unknown, Code: "no_address", Reason: say("no_address", s.titled()), Detail: harmless(err)}
	}
	req.Header.Set("User-Agent", "mailward-health")
	for k, v := range s.Header {
		req.Header.Set(k, v)
	}
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return failed(s.titled(), err, s.Meaning)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return failed(s.titled(), err, s.Meaning)
	}
	r := s.answered(resp.StatusCode, body)
	if r.State == Up {
		r = lookAtTLS(r, s.titled(), resp.TLS, began)
	}
	r = timed(r, s.titled(), s.Meaning, began)
	if r.Facts == nil {
		r.Facts = map[string]string{}
	}
	r.Facts["status"] = strconv.Itoa(resp.StatusCode)
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		r.Facts["certificate_until_at"] = resp.TLS.PeerCertificates[0].NotAfter.UTC().Format(time.RFC3339)
	}
	return r
}

// answered judges status and body.
func (s *Service) answered(status int, body []byte) Result {
	good := status >= 200 && status < 300
	if len(s.Status) > 0 {
		good = slices.Contains(s.Status, status)
	}
	if !good {
		return refusedWith(s.titled(), status, s.Meaning)
	}
	if said, is := errorBody(body); is {
		return Result{State: Down, Code: "error_body", Detail: said, Reason: say("error_body", s.titled(), plain(strconv.Itoa(status))).with(s.Meaning)}
	}
	if s.Body != "" && !bytes.Contains(body, []byte(s.Body)) {
		return Result{State: Down, Code: "wrong_body", Detail: "the answer does not hold " + strconv.Quote(s.Body), Reason: say("wrong_body", s.titled()).with(s.Meaning)}
	}
	if s.judge != nil {
		return s.judge(body)
	}
	return Result{State: Up, Reason: say("answers_well", s.titled())}
}

func lookAtTLS(r Result, title string, state *tls.ConnectionState, now time.Time) Result {
	if state == nil || len(state.PeerCertificates) == 0 {
		return r
	}
	until := state.PeerCertificates[0].NotAfter
	if until.Sub(now) < tlsSoon {
		r.State, r.Code = Degraded, "tls_expires"
		r.Reason = say("tls_expires", title, day(until))
	}
	return r
}

// errorBody says whether an answer in JSON tells of an error, as APIs do that
// answer 200 to everything: {"error": "..."}, {"type": "error"}, {"ok": false},
// {"status": "down"}, or a list with such an entry.
func errorBody(body []byte) (said string, is bool) {
	var list []map[string]any
	var one map[string]any
	if json.Unmarshal(body, &one) == nil {
		list = []map[string]any{one}
	} else if json.Unmarshal(body, &list) != nil {
		return "", false
	}
	for _, doc := range list {
		if wrong(doc) {
			text, _ := json.Marshal(doc)
			return string(text[:min(len(text), 300)]), true
		}
	}
	return "", false
}

func wrong(doc map[string]any) bool {
	word := func(key string) string {
		s, _ := doc[key].(string)
		return strings.ToLower(s)
	}
	switch e := doc["error"].(type) {
	case string:
		if e != "" {
			return true
		}
	case bool:
		if e {
			return true
		}
	case map[string]any:
		return true
	}
	for _, key := range []string{"ok", "success"} {
		if v, is := doc[key].(bool); is && !v {
			return true
		}
	}
	return slices.Contains([]string{"error", "danger"}, word("type")) || slices.Contains([]string{"error", "fail", "failed", "failure", "down", "unhealthy"}, word("status"))
}

// MISP checks a server of MISP with the key that its feed uses.
func MISP(name, address, key string, roots *x509.CertPool) Component {
	return HTTP(Service{
		Name: "misp:" + name, Title: "MISP " + name, URL: strings.TrimRight(address, "/") + "/servers/getVersion",
		// Without Accept it takes us for a browser and sends its login page.
		Header: map[string]string{"Authorization": key, "Accept": "application/json", "Content-Type": "application/json"},
		Body:   `"version"`, Roots: roots, Every: 30 * time.Second,
		Meaning: say("m.misp"),
	})
}

// mailcowLocked is how long mailcow is left alone after it has refused our key: it
// counts such tries, and soon closes its firewall to us, SMTP included.
const mailcowLocked = time.Hour

// Mailcow checks the API of mailcow, and the containers that it tells of.
func Mailcow(address, key string, roots *x509.CertPool) Component {
	s := Service{
		Name: "mailcow", Title: "mailcow", URL: strings.TrimRight(address, "/") + "/api/v1/get/status/containers", Header: map[string]string{"X-API-Key": key, "Accept": "application/json"},
		Roots: roots, Every: 30 * time.Second, judge: judgeMailcow,
		Meaning: say("m.mailcow"),
	}
	c := HTTP(s)
	ask := c.Check
	c.Check = func(ctx context.Context) Result {
		r := ask(ctx)
		if r.State == NotAuthorised {
			r.RetryAfter = mailcowLocked
			r.Reason = r.Reason.and("mailcow.locked")
		}
		return r
	}
	return c
}

func judgeMailcow(body []byte) Result {
	// Without a key, or with one that it does not know in a way of its own, it
	// answers 200 and nothing.
	if len(bytes.TrimSpace(body)) == 0 {
		return Result{State: NotAuthorised, Code: "refused", Detail: "200 with an empty body", Reason: say("mailcow.refused")}
	}
	var list map[string]struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal(body, &list); err != nil || len(list) == 0 {
		return Result{State: Down, Code: "wrong_body", Detail: "no list of containers", Reason: say("mailcow.wrong")}
	}
	var stopped []string
	for name, c := range list {
		if c.State != "running" {
			stopped = append(stopped, name+" ("+c.State+")")
		}
	}
	slices.Sort(stopped)
	r := Result{State: Up, Reason: say("mailcow.ok"), Facts: map[string]string{"containers": strconv.Itoa(len(list)), "stopped": strconv.Itoa(len(stopped))}}
	if len(stopped) > 0 {
		r.State, r.Code, r.Detail = Degraded, "stopped", strings.Join(stopped, ", ")
		r.Reason = say("mailcow.stopped", several(stopped, 5))
	}
	return r
}
