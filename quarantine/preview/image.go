package preview

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	nethtml "golang.org/x/net/html"
)

// image shows a picture that came with the mail, and a mark for one that would
// be fetched: whoever serves it would learn who looked, when and from where.
func (r *rewriter) image(t nethtml.Token) {
	src := strings.TrimSpace(attr(t, "src"))
	if data := r.enclosed(src); data != nil {
		kind := http.DetectContentType(data)
		if slices.Contains(pictures, kind) && len(data) <= maxImage && r.bytes+len(data) <= maxImages {
			r.bytes += len(data)
			r.out.WriteString(`<img src="data:` + kind + `;base64,` + base64.StdEncoding.EncodeToString(data) + `" alt="">`)
			return
		}
	}
	r.gone.Images++
	kind, size := MarkImage, ""
	w, h := attr(t, "width"), attr(t, "height")
	if tiny(w) || tiny(h) || hidden(attr(t, "style")) {
		kind = MarkPixel
		r.gone.Pixels++
	}
	if w != "" && h != "" {
		size = " (" + visible(w, 8) + " × " + visible(h, 8) + ")"
	}
	shown := Defang(src)
	if strings.HasPrefix(strings.ToLower(src), "data:") {
		shown = "data:"
	}
	if alt := strings.TrimSpace(attr(t, "alt")); alt != "" {
		size += " “" + visible(alt, 100) + "”"
	}
	r.mark(kind, shown+size)
}

// pictures are the types that are shown. What the bytes are counts, not what
// the mail calls them; SVG is a document and is never shown.
var pictures = []string{"image/png", "image/jpeg", "image/gif", "image/webp"}

// enclosed finds the bytes of a picture that the mail has with it.
func (r *rewriter) enclosed(src string) []byte {
	low := strings.ToLower(src[:min(len(src), 40)])
	switch {
	case strings.HasPrefix(low, "cid:"):
		id := src[len("cid:"):]
		if dec, err := url.PathUnescape(id); err == nil {
			id = dec
		}
		return r.images[id]
	case strings.HasPrefix(low, "data:image/"):
		_, b64, ok := strings.Cut(src, ";base64,")
		if !ok || base64.StdEncoding.DecodedLen(len(b64)) > maxImage+2 {
			return nil
		}
		if data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(b64), "")); err == nil {
			return data
		}
	}
	return nil
}

// tiny says whether a picture of this side is there to be loaded, not seen.
func tiny(side string) bool {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(side), "px"))
	return err == nil && n <= 2
}

func hidden(style string) bool {
	s := strings.ToLower(strings.Join(strings.Fields(style), ""))
	return strings.Contains(s, "display:none") || strings.Contains(s, "visibility:hidden") || strings.Contains(s, "opacity:0;") || strings.Contains(s, "width:1px") || strings.Contains(s, "width:0")
}
