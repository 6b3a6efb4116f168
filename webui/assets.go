package webui

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/labstack/echo/v4"
)

// The dist folder is made by `make assets`; only its placeholder is in the
// repository, so that `go build` works without node.
//
//go:embed all:dist
var distFS embed.FS

// fallbackCSS makes the pages readable when the assets were not built.
//
//go:embed fallback.css
var fallbackCSS []byte

// assets serves the built files under names that carry their hash.
type assets struct {
	dist     fs.FS
	manifest map[string]string // "app.js" -> "app-1A2B3C4D.js"; empty: not built
	logical  map[string]string // the other way round
}

func newAssets() *assets {
	dist, err := fs.Sub(distFS, "dist")
	if err != nil { // only for a name that is no path; the pages say "not built"
		dist = distFS
	}
	return loadAssets(dist)
}

func loadAssets(dist fs.FS) *assets {
	a := &assets{dist: dist, manifest: map[string]string{}, logical: map[string]string{}}
	data, err := fs.ReadFile(dist, "manifest.json")
	if err != nil || json.Unmarshal(data, &a.manifest) != nil {
		a.manifest = map[string]string{}
	}
	for k, v := range a.manifest {
		a.logical[v] = k
	}
	return a
}

// built says whether there are assets at all.
func (a *assets) built() bool { return len(a.manifest) > 0 }

// url is the address of an asset, or "" when it was not built.
func (a *assets) url(name string) string {
	if f, ok := a.manifest[name]; ok {
		return "/assets/" + f
	}
	return ""
}

func (a *assets) stylesheet() string {
	if u := a.url("style.css"); u != "" {
		return u
	}
	return "/assets/fallback.css"
}

var assetTypes = map[string]string{
	".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
	".woff2": "font/woff2", ".txt": "text/plain; charset=utf-8",
}

// serve answers /assets/*. Names carry a hash, so the answer never changes.
func (a *assets) serve(c echo.Context) error {
	name := c.Param("*")
	h := c.Response().Header()
	if name == "fallback.css" {
		h.Set("Cache-Control", "no-cache")
		return c.Blob(http.StatusOK, assetTypes[".css"], fallbackCSS)
	}
	ctype := assetTypes[path.Ext(name)]
	_, listed := a.logical[name]
	if ctype == "" || !listed && !strings.HasSuffix(name, ".LEGAL.txt") {
		return echo.ErrNotFound
	}
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	accepted := c.Request().Header.Get("Accept-Encoding")
	for _, enc := range []struct{ name, ext string }{{"br", ".br"}, {"gzip", ".gz"}} {
		if !accepts(accepted, enc.name) {
			continue
		}
		if data, err := fs.ReadFile(a.dist, name+enc.ext); err == nil {
			h.Set("Content-Encoding", enc.name)
			return c.Blob(http.StatusOK, ctype, data)
		}
	}
	data, err := fs.ReadFile(a.dist, name)
	if err != nil {
		return echo.ErrNotFound
	}
	return c.Blob(http.StatusOK, ctype, data)
}

// accepts says whether an Accept-Encoding header names the coding without q=0.
func accepts(header, coding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), coding) {
			q := strings.ReplaceAll(strings.ToLower(params), " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}
