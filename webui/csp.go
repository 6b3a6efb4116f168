package webui

import "github.com/labstack/echo/v4"

// pageCSP lets a page load only what we serve, run only our script, and be
// framed by nobody. Trusted Types leave HTML from the server as the only thing
// that may be parsed.
const pageCSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'; " +
	"require-trusted-types-for 'script'; trusted-types htmx"

// previewCSP is for the document with a mail's own HTML, and only for it. It
// has an opaque origin even when it is opened outside its frame.
const previewCSP = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"

// setSecurityHeaders goes before every handler, so that errors have them too.
func setSecurityHeaders(c echo.Context, https bool) {
	h := c.Response().Header()
	h.Set("Content-Security-Policy", pageCSP)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "HX-Request, HX-Target, Accept-Language, Accept-Encoding, Cookie")
	if https {
		h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
}
