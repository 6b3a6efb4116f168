package webui

import (
	"net"
	"net/netip"

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
