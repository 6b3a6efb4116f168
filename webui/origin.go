package webui

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

func (s *Server) clientIP(c echo.Context) netip.Addr {
	from, _ := s.origin(c.Request())
	return from
}

// origin is where a call comes from, and the proxy that says so, if one does. Each
// proxy adds its caller at the end of X-Forwarded-For, and only what trusted ones have
// added is believed: what stands before it the caller can make up.
func (s *Server) origin(r *http.Request) (from, via netip.Addr) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, netip.Addr{}
	}
	from = peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !s.trusts(from) {
			break
		}
		next, ok := hopAddr(strings.TrimSpace(hop))
		if !ok {
			break // it says nothing that can be used: the last one known stands
		}
		if !via.IsValid() {
			via = from
		}
		from = next
	}
	return from, via
}

func (s *Server) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) })
}

// hopAddr reads an address as proxies write them: alone, or with a port.
func hopAddr(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	p, err := netip.ParseAddrPort(s)
	return p.Addr().Unmap().WithZone(""), err == nil
}
