package webui

import (
	"net/http"
	"os"
	"testing"
	"time"
)

// TestDevServer serves the pages over made-up data, to look at them while they
// are changed: MAILWARD_DEV_LISTEN=127.0.0.1:8099 go test -run DevServer ./webui
func TestDevServer(t *testing.T) {
	listen := os.Getenv("MAILWARD_DEV_LISTEN")
	if listen == "" {
		t.Skip("MAILWARD_DEV_LISTEN is not set")
	}
	s := newSite(t)
	s.held.record = s.record
	s.held.deliver, s.record.live, s.pages.monitor = true, true, fakeMonitor{live: true}
	if os.Getenv("MAILWARD_DEV_EMPTY") != "" {
		s.held.items, s.pages.mails = nil, fakeMails{empty: true}
	}
	srv := &http.Server{Addr: listen, Handler: s.echo, ReadHeaderTimeout: 10 * time.Second}
	t.Log(srv.ListenAndServe())
}
