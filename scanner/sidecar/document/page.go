package document

import (
	"bytes"
	"encoding/base64"
	"html"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Bounds of a web page.
const (
	maxDataURIs  = 200
	smallPayload = 256 // bytes of base64; what is shorter is a key or a picture of a dot
	maxPayloads  = 20
)

var pageExt = map[string]bool{".html": true, ".htm": true, ".xhtml": true, ".shtml": true, ".xht": true, ".mht": true, ".mhtml": true}

func isPage(kind string) bool { return kind == "text/html" || kind == "application/xhtml+xml" }

var (
	buildsFile = regexp.MustCompile(`(new\s+Blob\b|new\s+File\s*\(|createObjectURL|msSaveOrOpenBlob|msSaveBlob|\.download\s*=|["']download["']|webkitURL)`)
	decodes    = regexp.MustCompile(`(\batob\b|fromCharCode|Uint8Array|decodeURIComponent|\bunescape\s*\(|TextDecoder|parseInt\s*\(|charCodeAt|CryptoJS|crypto\.subtle)`)
	writesPage = regexp.MustCompile(`(document\.write(?:ln)?\s*\(|\.innerHTML\s*=|\.outerHTML\s*=|insertAdjacentHTML|\beval\s*\(|new\s+Function\s*\(|srcdoc\s*=|document\.open\s*\()`)
	redirects  = regexp.MustCompile(`(?i)((?:window|document|top|self|parent)?\.?location(?:\.href)?\s*=\s*[^=]|location\s*\.\s*(?:replace|assign)\s*\(|window\.open\s*\()`)
	refresh    = regexp.MustCompile(`(?is)<meta\b[^>]{0,500}http-equiv\s*=\s*["']?refresh["']?[^>]{0,500}`)
	refreshURL = regexp.MustCompile(`(?i)url\s*=\s*["']?\s*([^"'>\s]+)`)
	dataURI    = regexp.MustCompile(`(?i)\bdata:([a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,80})?((?:;[a-z0-9=._-]{1,80}){0,5}?)(;base64)?,`)
	base64Text = regexp.MustCompile(`[A-Za-z0-9+/_-]{256,}={0,2}`)
	hexText    = regexp.MustCompile(`(?:[0-9A-Fa-f]{2}){200,}|(?:\\x[0-9A-Fa-f]{2}){100,}`)
	percents   = regexp.MustCompile(`["']((?:[^"'%\s]|\s)*%[0-9A-Fa-f]{2}(?:[^"'%\s]{0,40}%[0-9A-Fa-f]{2}){20,}[^"']*)["']`)
	byteList   = regexp.MustCompile(`\[\s*(?:\d{1,3}\s*,\s*){100,}\d{1,3}\s*\]`)
	hta        = regexp.MustCompile(`(?i)<hta:application\b`)
	activeX    = regexp.MustCompile(`(?i)(new\s+ActiveXObject|CreateObject\s*\(|WScript\.Shell|<object\b[^>]{0,300}classid\s*=\s*["']?clsid:)`)
	searchLink = regexp.MustCompile(`(?i)(?:href|src|content|location)\s*=?\s*[^>]{0,40}((?:search-ms|ms-appinstaller|ms-msdt|ms-officecmd|ms-word|ms-excel|shell|vbscript):[^"'>\s]{3,500})`)
)

// page looks into a web page: scripts that build files, what is packed in it,
// where it leads by itself. Nearly all pages are mails without any of it, which
// a search for a few words tells faster than patterns do.
func (r *reader) page() error {
	b := plainText(r.file.Data)
	low := lower(b)
	if err := r.late(); err != nil {
		return err
	}
	if bytes.Contains(low, []byte("hta:application")) && hta.Match(b) {
		r.suspect("HTML.Application", 9, "it is a web page that runs as a program (HTA)")
	}
	if err := r.dataURIs(b, low); err != nil {
		return err
	}
	if containsAny(low, "-ms:", "ms-", "shell:", "vbscript:") {
		if m := searchLink.FindSubmatch(b); m != nil {
			r.suspect("HTML.ProtocolLink", 7, "a link in it starts a part of Windows: "+clip(string(m[1]), 120), "target", string(m[1]))
		}
	}
	if r.file.Attached {
		r.leads(b, low)
	}
	if !hasScript(b, low) {
		return nil
	}
	return r.scripts(b)
}

// lower is b with the letters of ASCII in lower case, each at its place.
func lower(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		out[i] = c
	}
	return out
}

func containsAny(b []byte, words ...string) bool {
	for _, w := range words {
		if bytes.Contains(b, []byte(w)) {
			return true
		}
	}
	return false
}

// containsFold looks for lower-case text in any case.
func containsFold(b []byte, s string) bool { return bytes.Contains(lower(b), []byte(s)) }

func hasScript(b, low []byte) bool {
	return containsAny(low, "<script") || containsAny(low, "javascript:", "onload", "onerror", "onclick", "onbegin", "onmouseover", "onfocus", "ontoggle", "onanimationstart") && scriptAttr.Match(b)
}

var scriptAttr = regexp.MustCompile(`(?i)<[a-z][^>]*\son(?:load|error|click|begin|mouseover|focus|toggle|animationstart)\s*=|(?:href|src)\s*=\s*["']?\s*javascript:`)

// leads finds where a page goes by itself.
func (r *reader) leads(b, low []byte) {
	if m := refresh.Find(b); m != nil && containsAny(low, "http-equiv") {
		if u := refreshURL.FindSubmatch([]byte(html.UnescapeString(string(m)))); u != nil {
			r.link(string(u[1]), "")
			r.sign("HTML.Refresh", 2, "the page leads to another address by itself", "target", string(u[1]))
		}
	}
	if m := redirects.FindSubmatch(b); m != nil && containsAny(low, "<script") {
		r.sign("HTML.Redirect", 1.5, "a script of the page leads to another address", "code", string(m[0]))
	}
}

// scripts judges the scripts of a page: files that they build from what is packed
// in them are taken out.
func (r *reader) scripts(b []byte) error {
	if r.file.Attached && activeX.Match(b) {
		r.suspect("HTML.ActiveX", 8, "a script of the page starts parts of Windows (ActiveX)")
	}
	builds, codes, writes := names(buildsFile, b), names(decodes, b), names(writesPage, b)
	if builds == "" && codes == "" && writes == "" {
		if r.file.Attached {
			r.sign("HTML.Script", 1, "there is a script in the attached page")
		}
		return nil
	}
	n, err := r.payloads(b)
	if err != nil {
		return err
	}
	switch {
	case n > 0 && builds != "" && codes != "":
		r.suspect("HTML.Smuggling", 9, "the page builds a file in the browser from what is packed in it, past all scanners", "builds", builds, "decodes", codes)
	case n > 0 && writes != "" && codes != "" && r.file.Attached:
		r.suspect("HTML.PackedPage", 7, "the attached page unpacks another page that is hidden in it", "writes", writes, "decodes", codes)
	case r.file.Attached:
		r.sign("HTML.Script", 1.5, "there is a script in the attached page", "calls", joinedText(builds, codes, writes))
	}
	return nil
}

func joinedText(parts ...string) string {
	return strings.Trim(strings.Join(parts, ", "), ", ")
}

// payloads takes out what is packed in a page as base64, hexadecimal digits,
// percents or numbers, and says how many were something.
func (r *reader) payloads(b []byte) (n int, err error) {
	take := func(data []byte) error {
		if len(data) < 64 {
			return nil
		}
		if err := r.took(len(data)); err != nil {
			return err
		}
		if !r.worth(data) {
			return nil
		}
		n++
		return r.embed("", "", data)
	}
	for _, m := range base64Text.FindAllIndex(b, maxPayloads*5) {
		if m[0] > 0 && bytes.HasSuffix(b[max(0, m[0]-10):m[0]], []byte("base64,")) && !containsAny(lower(b[max(0, m[0]-80):m[0]]), "octet-stream", "application/") {
			continue // Of a data: address, looked at before.
		}
		raw := b[m[0]:m[1]]
		data := looseBase64(raw)
		if !r.worth(data) {
			if back := looseBase64(reverse(raw)); r.worth(back) {
				data = back
			}
		}
		if err := take(data); err != nil || n >= maxPayloads {
			return n, err
		}
	}
	for _, m := range hexText.FindAll(b, maxPayloads) {
		if err := take(unhex(bytes.ReplaceAll(m, []byte(`\x`), nil))); err != nil {
			return n, err
		}
	}
	for _, m := range percents.FindAll(b, maxPayloads) {
		if s, err := url.PathUnescape(strings.Trim(string(m), `"'`)); err == nil {
			if err := take([]byte(s)); err != nil {
				return n, err
			}
		}
	}
	for _, m := range byteList.FindAll(b, maxPayloads) {
		if err := take(numbers(m)); err != nil {
			return n, err
		}
	}
	return n, nil
}

// numbers reads [77, 90, ...].
func numbers(b []byte) []byte {
	var out []byte
	for _, f := range bytes.FieldsFunc(b, func(c rune) bool { return c < '0' || c > '9' }) {
		if v, err := strconv.ParseUint(string(f), 10, 8); err == nil {
			out = append(out, byte(v))
		}
	}
	return out
}

// worth says whether bytes are something that a page would hide: a file of a
// known kind, or a page.
func (r *reader) worth(b []byte) bool {
	if len(b) < 64 {
		return false
	}
	for _, m := range []string{"PK\x03\x04", "MZ", "Rar!", "7z\xbc\xaf", "%PDF", "\xd0\xcf\x11\xe0", "\x1f\x8b", "MSCF", "{\\rt", "\x4c\x00\x00\x00\x01\x14", "\xe4\x52\x5c\x7b", "ITSF", "\x7fELF", "#@~^"} {
		if bytes.HasPrefix(b, []byte(m)) {
			return true
		}
	}
	if len(b) > 0x8006 && string(b[0x8001:0x8006]) == "CD001" {
		return true
	}
	return containsAny(lower(b[:min(len(b), 2048)]), "<html", "<script", "<!doctype", "<form", "<body", "<iframe", "wscript", "powershell")
}

// dataURIs takes out what is packed in addresses. Pictures are left in, where
// they are such.
func (r *reader) dataURIs(b, low []byte) error {
	if !containsAny(low, "data:") {
		return nil
	}
	for _, m := range dataURI.FindAllSubmatchIndex(b, maxDataURIs) {
		group := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return strings.ToLower(string(b[m[2*i]:m[2*i+1]]))
		}
		kind, rest := group(1), b[m[1]:]
		if (strings.HasPrefix(kind, "image/") && kind != "image/svg+xml" && looksPicture(rest)) || strings.HasPrefix(kind, "font/") {
			continue
		}
		if i := bytes.IndexAny(rest, "\"'<>`)"); i >= 0 {
			rest = rest[:i]
		}
		var data []byte
		if strings.HasSuffix(group(2), ";base64") || group(3) != "" {
			if s, err := url.PathUnescape(string(rest)); err == nil {
				rest = []byte(s)
			}
			data = looseBase64(rest)
		} else if s, err := url.PathUnescape(string(rest)); err == nil {
			data = []byte(s)
		}
		if len(data) < 16 || strings.HasPrefix(kind, "text/css") {
			continue
		}
		if err := r.took(len(data)); err != nil {
			return err
		}
		if isPage(kind) && r.file.Attached {
			r.sign("HTML.DataPage", 2, "another page is packed in an address of it")
		}
		if err := r.embed("", kind, data); err != nil {
			return err
		}
	}
	return nil
}

// looksPicture says whether base64 begins like a picture of a common kind.
func looksPicture(b []byte) bool {
	for _, m := range []string{"iVBOR", "/9j/", "R0lGOD", "UklGR", "Qk", "AAABAA", "AAAA", "SUkq", "TU0A"} {
		if bytes.HasPrefix(b, []byte(m)) {
			return true
		}
	}
	return false
}

// looseBase64 reads base64 of either alphabet, and leaves out what is none.
func looseBase64(b []byte) []byte {
	clean := make([]byte, 0, len(b))
	for _, c := range b {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '+', c == '/':
			clean = append(clean, c)
		case c == '-':
			clean = append(clean, '+')
		case c == '_':
			clean = append(clean, '/')
		}
	}
	if len(clean)%4 == 1 {
		clean = clean[:len(clean)-1]
	}
	out, _ := base64.RawStdEncoding.DecodeString(string(clean))
	return out
}

// svg looks into a picture that is XML, and so may be a page.
func (r *reader) svg() error {
	b := plainText(r.file.Data)
	low := lower(b)
	if containsAny(low, "<foreignobject") && containsAny(low, "<iframe", "<form", "<input", "<embed") {
		r.suspect("SVG.Page", 7, "it is a picture that holds a web page with a form or a frame")
	}
	if err := r.dataURIs(b, low); err != nil {
		return err
	}
	r.file.Attached = true // Also where a mail shows it, it can be opened by itself.
	r.leads(b, low)
	if !hasScript(b, low) {
		return nil
	}
	r.suspect("SVG.Script", 6, "it is a picture that holds a script")
	return r.scripts(b)
}
