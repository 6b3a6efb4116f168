package webui

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/labstack/echo/v4"

	"mailward/audit"
	"mailward/identity"
)

func TestOrigin_BelievesOnlyTrustedProxies(t *testing.T) {
	t.Parallel()
	e := echo.New()
	e.IPExtractor = behind([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")})
	for _, c := range []struct {
		peer      string
		header    []string
		from, via string
	}{
		{"192.0.2.9:5", nil, "192.0.2.9", ""},
		{"192.0.2.9:5", []string{"198.51.100.7"}, "192.0.2.9", ""}, // nobody's proxy
		{"10.0.0.5:5", nil, "10.0.0.5", ""},
		{"10.0.0.5:5", []string{"198.51.100.7"}, "198.51.100.7", "10.0.0.5"},
		{"10.0.0.5:5", []string{"6.6.6.6, 198.51.100.7"}, "198.51.100.7", "10.0.0.5"}, // the first was made up
		{"10.0.0.5:5", []string{"6.6.6.6", "198.51.100.7, 10.1.1.1"}, "198.51.100.7", "10.0.0.5"},
		{"10.0.0.5:5", []string{"10.1.1.1"}, "10.1.1.1", "10.0.0.5"},
		{"10.0.0.5:5", []string{"198.51.100.7:443"}, "10.0.0.5", ""},
		{"[::ffff:10.0.0.5]:5", []string{"[2001:db8::7]"}, "2001:db8::7", "10.0.0.5"},
		{"127.0.0.1:5", []string{"198.51.100.7"}, "127.0.0.1", ""},
		{"192.168.0.1:5", []string{"198.51.100.7"}, "192.168.0.1", ""},
		{"[fd00::1]:5", []string{"2001:db8::7"}, "2001:db8::7", "fd00::1"},
		{"10.0.0.5:5", []string{"198.51.100.7, unknown"}, "10.0.0.5", ""},
		{"10.0.0.5:5", []string{"198.51.100.7\x00"}, "10.0.0.5", ""},
		{"nonsense", []string{"198.51.100.7"}, "", ""},
	} {
		call := e.NewContext(&http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.header}}, nil)
		from, via := clientIP(call), proxyOf(call)
		text := func(a netip.Addr) string {
			if !a.IsValid() {
				return ""
			}
			return a.String()
		}
		if text(from) != c.from || text(via) != c.via {
			t.Errorf("%s %q: from %v by %v, want %s by %s", c.peer, c.header, from, via, c.from, c.via)
		}
	}
}

func TestOrigin_IsOnRecord(t *testing.T) {
	t.Parallel()
	s := newRealSite(t, identity.SingleOperator)
	admin := s.token(identity.Admin)
	source := func(n int) map[string]any {
		t.Helper()
		s.call(admin, "GET", "/messages", "", "X-Forwarded-For", "198.51.100.7")
		eventually(t, "the event", func() bool { return len(s.events(audit.APICall)) == n })
		return s.events(audit.APICall)[0]["source"].(map[string]any)
	}
	if m := source(1); m["ip"] != "127.0.0.1" || m["trusted_proxy"] != nil {
		t.Errorf("without a trusted proxy: %v", m)
	}
	s.srv.echo.IPExtractor = behind([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if m := source(2); m["ip"] != "198.51.100.7" || m["trusted_proxy"] != "127.0.0.1" {
		t.Errorf("by a trusted proxy: %v", m)
	}
	if code, _, body := s.call(admin, "POST", "/domains", `{"name":"proxied.example","next_hop":"127.0.0.1:25"}`, "X-Forwarded-For", "198.51.100.7"); code != http.StatusCreated {
		t.Fatal(code, body)
	}
	if m := s.events("domain.create")[0]["source"].(map[string]any); m["ip"] != "198.51.100.7" || m["trusted_proxy"] != "127.0.0.1" {
		t.Errorf("a row change by a trusted proxy: %v", m)
	}
}
