package webui

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/labstack/echo/v4"
)

// behind reads where a call comes from. Each proxy adds its caller at the end of
// X-Forwarded-For, and only what trusted ones have added is believed: what stands
// before it the caller can make up. Where an entry is no plain address, the last
// proxy stands for all.
func behind(trusted []netip.Prefix) echo.IPExtractor {
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range trusted {
		options = append(options, echo.TrustIPRange(&net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}

// clientIP is where a call comes from; not valid where that is not known.
func clientIP(c echo.Context) netip.Addr {
	a, err := netip.ParseAddr(c.RealIP())
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// proxyOf is the proxy that says where a call comes from, if one does.
func proxyOf(c echo.Context) netip.Addr {
	peer, err := netip.ParseAddrPort(c.Request().RemoteAddr)
	if err != nil || peer.Addr().Unmap() == clientIP(c) {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// siteOf is what a browser says of where a call comes from (Fetch Metadata). It says
// nothing over plain http to other hosts than its own; then the page that was left
// may tell.
func siteOf(r *http.Request) string {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site
	}
	u, err := url.Parse(r.Referer())
	switch {
	case err != nil || u.Host == "":
		return ""
	case u.Host == r.Host:
		return "same-origin"
	}
	return "cross-site"
}

// fromOurPage says whether a person came by a link on a page of ours.
func fromOurPage(r *http.Request) bool { return siteOf(r) == "same-origin" }

// fromElsewhere says whether something else than a page of ours made a browser call:
// another site, a mail, a bookmark. Programs are not from elsewhere.
func fromElsewhere(r *http.Request) bool { return siteOf(r) != "" && !fromOurPage(r) }
