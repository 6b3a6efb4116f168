package hop

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"mailward/internal/testenv"
)

// shelf outlives the senders of a test.
type shelf struct {
	mu   sync.Mutex
	kept map[string][]byte
	puts int
}

func (s *shelf) Get(_ context.Context, key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.kept[key]
	return b, ok
}

func (s *shelf) Put(_ context.Context, key string, b []byte, _ time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[key] = b
	s.puts++
}

// TestFeatures_OverRestart: a hop that is down when we start is known for what it
// offered last, and what it says when it is back counts.
func TestFeatures_OverRestart(t *testing.T) {
	t.Parallel()
	h := testenv.NextHop(t)
	h.Features("SMTPUTF8", "DSN", "8BITMIME")
	sh := &shelf{kept: map[string][]byte{}}
	cfg := Config{Shelf: sh}
	before := sender(t, cfg)
	for range 2 {
		if _, err := before.Check(context.Background(), h.Addr); err != nil {
			t.Fatal(err)
		}
	}
	if sh.puts != 1 {
		t.Errorf("put away %d times", sh.puts)
	}
	h.Fail(testenv.RefuseConnect)
	after := sender(t, cfg)
	if _, ok := after.Features(h.Addr); ok {
		t.Error("known before it was tried")
	}
	if _, err := after.Check(context.Background(), h.Addr); err == nil {
		t.Error("it is not down")
	}
	if f, ok := after.Features(h.Addr); !ok || !f.SMTPUTF8 || !f.DSN {
		t.Errorf("while it is down: %+v, %v", f, ok)
	}
	h.Fail(testenv.NoFault)
	h.Features("8BITMIME")
	if _, err := after.Check(context.Background(), h.Addr); err != nil {
		t.Fatal(err)
	}
	if f, ok := after.Features(h.Addr); !ok || f.SMTPUTF8 || f.DSN || sh.puts != 2 {
		t.Errorf("when it is back: %+v, %v, put away %d times", f, ok, sh.puts)
	}
	sh.kept["features:"+h.Addr] = []byte("no JSON")
	h.Fail(testenv.RefuseConnect)
	none := sender(t, cfg)
	_, _ = none.Check(context.Background(), h.Addr)
	if _, ok := none.Features(h.Addr); ok {
		t.Error("nonsense is believed")
	}
}

// TestMTASTS_OverRestart: who blocks HTTPS and DNS records while we start does not
// switch a policy off (RFC 8461 §10.2).
func TestMTASTS_OverRestart(t *testing.T) {
	t.Parallel()
	const mx = "example.org. 300 IN MX 10 mx1.example.org.\nmx1.example.org. 300 IN A 127.0.0.1\n"
	w := newWorld(t, mx+"_mta-sts.example.org. 300 IN TXT \"v=STSv1; id=1\"\n")
	stsServer(t, w, newAuthority(t), func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(rw, "version: STSv1\nmode: enforce\nmx: mx1.example.org\nmax_age: 600\n")
	})
	sh := &shelf{kept: map[string][]byte{}}
	w.cfg.Shelf = sh
	s := sender(t, w.cfg)
	if res := s.Send(context.Background(), "mx:example.org", bob()); res.Err == nil || sh.puts != 1 {
		t.Fatalf("%+v, put away %d times", res, sh.puts) // the host has no TLS
	}
	w.dns.SetZone(t, mx)
	if res := sender(t, w.cfg).Send(context.Background(), "mx:example.org", bob()); res.Err == nil {
		t.Error("the policy is forgotten")
	}
	sh.kept["mta-sts:example.org"] = []byte(`{"id":"1","mode":"enforce","mx":["mx1.example.org"],"until":"2020-01-01T00:00:00Z"}`)
	if res := sender(t, w.cfg).Send(context.Background(), "mx:example.org", bob()); res.Err != nil {
		t.Errorf("a policy that is out of date: %+v", res)
	}
}
