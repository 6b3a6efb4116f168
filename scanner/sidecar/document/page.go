package document

import (
	"bytes"
	"encoding/base64"
	"html"
	"iter"
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

// Words of scripts, in lower case. Patterns would be too slow for pages of many
// megabytes, which smuggling makes.
var (
	buildsFile = []string{"new blob", "new file(", "createobjecturl", "mssaveoropenblob", "mssaveblob", ".download=", ".download =", "\"download\"", "'download'", "webkiturl"}
	decodes    = []string{"atob", "fromcharcode", "uint8array", "decodeuricomponent", "unescape(", "textdecoder", "parseint(", "charcodeat", "cryptojs", "crypto.subtle"}
	writesPage = []string{"document.write", ".innerhtml", ".outerhtml", "insertadjacenthtml", "eval(", "new function(", "srcdoc=", "document.open("}
	redirects  = []string{"location.href", "location=", "location =", "location.replace(", "location.assign(", "window.open("}
	activeX    = []string{"new activexobject", "createobject(", "wscript.shell", "classid=\"clsid:", "classid='clsid:", "classid=clsid:"}
	protocols  = []string{"search-ms:", "search:query", "ms-appinstaller:", "ms-msdt:", "ms-officecmd:", "vbscript:", "shell:::"}
	jumping    = []string{"href=\"javascript:", "href='javascript:", "href=javascript:", "src=\"javascript:"}
	events     = []string{"onload", "onerror", "onclick", "onbegin", "onend", "onrepeat", "onmouseover", "onmouseenter", "onmousemove", "onpointerover", "onpointerenter", "onfocus", "onfocusin", "onpageshow", "onscroll", "ontoggle", "onanimationstart", "onanimationend", "ontransitionend"}
)

var (
	refreshURL = regexp.MustCompile(`(?i)(?:content\s*=\s*["']?\s*\d+\s*[;,]\s*(?:url\s*=\s*)?|url\s*=\s*)["']?\s*([^"'>\s]+)`)
	dataURI    = regexp.MustCompile(`^data:([a-z0-9.+-]+/[a-z0-9.+-]+)?((?:;[a-z0-9=._-]+)*?)(;base64)?,`)
)

// page looks into a web page: scripts that build files, what is packed in it,
// where it leads by itself. Nearly all pages are mails without any of it, which
// a search for a few words tells faster than patterns do.
func (r *reader) page() error {
	r.seen = true
	b, err := r.decoded(plainText(r.file.Data), r.file.ext())
	if err != nil {
		return err
	}
	low := lower(b)
	if err := r.late(); err != nil {
		return err
	}
	if containsAny(low, "<hta:application") {
		r.suspect("HTML.Application", 9, "it is a web page that runs as a program (HTA)")
	}
	if err := r.dataURIs(b, low); err != nil {
		return err
	}
	at, jumps := schemes(low)
	if at >= 0 {
		target := string(b[at:min(len(b), at+120)])
		r.suspect("HTML.ProtocolLink", 7, "a link in it starts a part of Windows: "+clip(target, 120), "target", target)
	}
	if r.file.Attached {
		r.leads(b, low)
	}
	if !jumps && !containsAny(low, "<script") && !hasEvent(low) {
		return nil
	}
	return r.scripts(b, low)
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

func hasScript(low []byte) bool {
	_, jumps := schemes(low)
	return jumps || containsAny(low, "<script") || hasEvent(low)
}

// schemes goes through the colons of a page: where the first protocol stands that
// starts something (-1: nowhere), and whether a link is a script.
func schemes(low []byte) (at int, jumps bool) {
	at = -1
	for i := range indexes(low, ":", len(low)) {
		until := low[:i+1]
		for _, j := range jumping {
			jumps = jumps || bytes.HasSuffix(until, []byte(j))
		}
		for _, p := range protocols {
			name := p[:strings.IndexByte(p, ':')+1]
			if start := i + 1 - len(name); at < 0 && bytes.HasSuffix(until, []byte(name)) && bytes.HasPrefix(low[start:], []byte(p)) {
				at = start
			}
		}
	}
	return at, jumps
}

// hasEvent goes through the equals signs of a page, for attributes that are code.
func hasEvent(low []byte) bool {
	for i := range indexes(low, "=", len(low)) {
		name := bytes.TrimSuffix(low[max(0, i-20):i], []byte(" "))
		for _, e := range events {
			if bytes.HasSuffix(name, []byte(e)) {
				return true
			}
		}
	}
	return false
}

// leads finds where a page goes by itself.
func (r *reader) leads(b, low []byte) {
	for i := range indexes(low, "http-equiv", 50) {
		meta := low[i:min(len(low), i+40)]
		if !containsAny(meta, "refresh") {
			continue
		}
		around := html.UnescapeString(string(b[max(0, i-300):min(len(b), i+600)]))
		if u := refreshURL.FindStringSubmatch(around); u != nil {
			r.link(u[1], "")
			r.sign("HTML.Refresh", 2, "the page leads to another address by itself", "target", u[1])
		}
	}
	if code := words(low, redirects); code != "" && containsAny(low, "<script") {
		r.sign("HTML.Redirect", 1.5, "a script of the page leads to another address", "code", code)
	}
}

// indexes yields the places of a word, at most most.
func indexes(b []byte, word string, most int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for at, n := 0, 0; n < most; n++ {
			i := bytes.Index(b[at:], []byte(word))
			if i < 0 || !yield(at+i) {
				return
			}
			at += i + len(word)
		}
	}
}

// scripts judges the scripts of a page: files that they build from what is packed
// in them are taken out.
func (r *reader) scripts(b, low []byte) error {
	if r.file.Attached && containsAny(low, activeX...) {
		r.suspect("HTML.ActiveX", 8, "a script of the page starts parts of Windows (ActiveX)")
	}
	builds, codes, writes := words(low, buildsFile), words(low, decodes), words(low, writesPage)
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
	if whole := joinedStrings(b); n == 0 && len(whole) < len(b) {
		if n, err = r.payloads(whole); err != nil {
			return err
		}
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

// joinedStrings is a script whose pieces of strings are put together, which come after
// each other in a sum or a list: "TVqQ" + "AAMA", ["TVqQ", "AAMA"].
func joinedStrings(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c != '"' && c != '\'' && c != '`' {
			out = append(out, c)
			continue
		}
		next := bytes.TrimLeft(b[i+1:], " \t\r\n")
		if len(next) > 0 && (next[0] == '+' || next[0] == ',') {
			if next = bytes.TrimLeft(next[1:], " \t\r\n"); len(next) > 0 && next[0] == c {
				i = len(b) - len(next)
				continue
			}
		}
		out = append(out, c)
	}
	return out
}

// xmlPage judges XML that a browser shows as a page, since parts of it are HTML or
// SVG, or since it says itself how it is made one.
func (r *reader) xmlPage() error {
	if err := r.script(); err != nil {
		return err
	}
	b := plainXML(r.file.Data)
	// Names of spaces are compared as they stand (Namespaces in XML 1.0 §2.3): most files
	// have none of these, and need no copy.
	if !bytes.Contains(b, []byte("www.w3.org/")) {
		return nil
	}
	low := lower(b)
	if !containsAny(low, "www.w3.org/1999/xhtml", "www.w3.org/2000/svg", "www.w3.org/1999/xsl/transform") || !hasScript(low) && !containsAny(low, ":script") {
		return nil
	}
	r.suspect("XML.Script", 6, "it is an XML file that a browser shows as a page with scripts")
	r.file.Attached, r.seen = true, true
	return r.scripts(b, low)
}

func joinedText(parts ...string) string {
	return strings.Trim(strings.Join(parts, ", "), ", ")
}

// Runs of characters that may be packed bytes.
func isBase64(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '-' || c == '_'
}

func isHexList(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' || c >= 'a' && c <= 'f' || c == '\\' || c == 'x'
}

func isPercents(c byte) bool { return c > ' ' && c != '"' && c != '\'' && c != '`' }

func isByteList(c byte) bool {
	return c >= '0' && c <= '9' || c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t'
}

// stretches lists the places where at least size bytes in a row are of a kind, at most
// a hundred. Patterns with such counts are slow.
func stretches(b []byte, of func(byte) bool, size int) (out [][2]int) {
	from := 0
	for i := 0; i <= len(b) && len(out) < 5*maxPayloads; i++ {
		if i < len(b) && of(b[i]) {
			continue
		}
		if i-from >= size {
			out = append(out, [2]int{from, i})
		}
		from = i + 1
	}
	return out
}

// payloads takes out what is packed in a page as base64, hexadecimal digits,
// percents or numbers, and says how many were something.
func (r *reader) payloads(b []byte) (n int, err error) {
	for _, way := range []struct {
		of     func(byte) bool
		size   int
		decode func(b []byte) []byte
	}{
		{isBase64, smallPayload, r.base64Either},
		{isHexList, 200, func(b []byte) []byte {
			if bytes.Contains(b, []byte(`\x`)) {
				b = bytes.ReplaceAll(b, []byte(`\x`), nil)
			}
			return unhex(b)
		}},
		{isPercents, 180, func(b []byte) []byte {
			if bytes.Count(b, []byte("%")) < 20 {
				return nil
			}
			return percentBytes(b)
		}},
		{isByteList, 300, func(b []byte) []byte {
			if bytes.Count(b, []byte(",")) < 100 {
				return nil
			}
			return numbers(b)
		}},
	} {
		for _, at := range stretches(b, way.of, way.size) {
			if n >= maxPayloads || inDataURI(b, at[0]) {
				continue
			}
			data := way.decode(b[at[0]:at[1]])
			if err := r.took(len(data)); err != nil {
				return n, err
			}
			if r.worth(data) {
				n++
				if err := r.embed("", "", data); err != nil {
					return n, err
				}
			}
		}
	}
	return n, nil
}

// inDataURI says whether base64 belongs to a data: address that only shows
// something; the others are looked at here too, since scripts use them.
func inDataURI(b []byte, at int) bool {
	before := lower(b[max(0, at-80):at])
	return bytes.HasSuffix(before, []byte("base64,")) && !containsAny(before, "octet-stream", "application/")
}

// base64Either reads base64 that may be written backwards.
func (r *reader) base64Either(b []byte) []byte {
	data := looseBase64(b)
	if !r.worth(data) {
		if back := looseBase64(reverse(b)); r.worth(back) {
			return back
		}
	}
	return data
}

// percentBytes undoes %41, and leaves what is no such thing.
func percentBytes(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '%' && i+2 < len(b) {
			if v, err := strconv.ParseUint(string(b[i+1:i+3]), 16, 8); err == nil {
				out = append(out, byte(v))
				i += 2
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
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
	end := 0 // of the last one: what stands in it is no other
	for i := range indexes(low, "data:", 10*maxDataURIs) {
		if i < end {
			continue
		}
		m := dataURI.FindSubmatch(low[i:min(len(low), i+300)])
		if m == nil {
			continue
		}
		kind, rest := string(m[1]), b[i+len(m[0]):]
		if strings.HasPrefix(kind, "image/") && kind != "image/svg+xml" && looksPicture(rest) {
			r.picture(rest)
			continue
		}
		if strings.HasPrefix(kind, "font/") {
			continue
		}
		if n := bytes.IndexAny(rest, "\"'<>`)"); n >= 0 {
			rest = rest[:n]
		}
		end = i + len(m[0]) + len(rest)
		var data []byte
		if bytes.HasSuffix(m[2], []byte(";base64")) || len(m[3]) > 0 {
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

// picture hands on a picture that stands in an address. What is large is a photo.
func (r *reader) picture(b []byte) {
	const most = 128 << 10 // bytes of base64
	if n := bytes.IndexAny(b[:min(len(b), most)], "\"'<>`)"); n >= smallPayload && len(r.out.Pictures) < maxPictures {
		r.out.Pictures = append(r.out.Pictures, Picture{File: looseBase64(b[:n])})
	}
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
	if !hasScript(low) {
		return nil
	}
	r.suspect("SVG.Script", 6, "it is a picture that holds a script")
	return r.scripts(b, low)
}
