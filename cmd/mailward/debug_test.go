package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestDebug_ShowsNoSecretAndAnswersOnlyThisHost(t *testing.T) {
	t.Parallel()
	conf, err := loadConfig(writeFile(t, "debug: {listen: \"127.0.0.1:6060\"}\ndatabase: {url: \"postgres://u:hunter2@db/x\"}\nredis: {url: env:R}\n"), []string{"R=redis://:hunter2@r:1"})
	if err != nil {
		t.Fatal(err)
	}
	p := &program{conf: conf, log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry()}
	p.metrics.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "there_total"}))
	h := p.debugHandler()
	ask := func(host, path string) (int, string) {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		host, path string
		code       int
		want       string
	}{
		{"127.0.0.1:6060", "/config", 200, "listen: 127.0.0.1:6060"},
		{"localhost:6060", "/metrics", 200, "there_total 0"},
		{"[::1]:6060", "/debug/pprof/goroutine?debug=1", 200, "goroutine profile"},
		{"evil.example:6060", "/config", 403, "only for this host"},
		{"", "/config", 403, "only for this host"},
		{"127.0.0.1", "/nowhere", 404, ""},
	} {
		code, body := ask(c.host, c.path)
		if code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %s", c.host, c.path, code, body)
		}
		if strings.Contains(body, "hunter2") {
			t.Errorf("%s shows a password", c.path)
		}
	}
}

func TestDebug_ListensOnTheLoopbackOnly(t *testing.T) {
	t.Parallel()
	for addr, good := range map[string]bool{"": true, "127.0.0.1:6060": true, "[::1]:6060": true, "localhost:0": true, ":6060": false, "0.0.0.0:6060": false, "192.0.2.1:6060": false, "127.0.0.1": false, "example.org:80": false} {
		c := DefaultConfig()
		c.Debug.Listen = addr
		if err := c.Validate(); (err == nil) != good {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
