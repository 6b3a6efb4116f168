package document

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf16"
)

// pdf is the look into one PDF file.
type pdf struct {
	r        *reader
	objects  []*pdfObject
	byNum    map[int]*pdfObject // the last of a number, as readers have it
	trailers []pdfDict
	crypt    *pdfCrypt
	taken    map[*pdfObject]bool // streams that were taken out
	auto     bool                // something is done when it is opened
	scripts  bytes.Buffer
	maps     map[*pdfObject]*cmap
}

// pdf reads a PDF file: what it does by itself, what is in it, what it says.
func (r *reader) pdf() error {
	p := &pdf{r: r, byNum: map[int]*pdfObject{}, taken: map[*pdfObject]bool{}, maps: map[*pdfObject]*cmap{}}
	objects, trailers, hashed, err := scanPDF(r.file.Data, r.late)
	if err != nil {
		return err
	}
	p.objects, p.trailers = objects, trailers
	for _, o := range p.objects {
		if _, known := p.byNum[o.num]; o.num >= 0 && !(known && o.inner) {
			p.byNum[o.num] = o
		}
	}
	p.measure()
	if !p.decryptAll() {
		r.locked("a PDF file in it is encrypted: %s", r.file.Name)
		return nil
	}
	packedHashed, err := p.unpackObjects()
	if err != nil {
		return err
	}
	if hashed || packedHashed {
		r.sign("PDF.ObfuscatedName", 2, "it spells the names of its parts in a way that hides them from scanners")
	}
	for _, o := range p.objects {
		if err := r.late(); err != nil {
			return err
		}
		if err := p.visit(o, o.val, 0); err != nil {
			return err
		}
	}
	p.script()
	if err := p.pages(); err != nil {
		return err
	}
	return p.pictures()
}

// measure finds the ends of streams whose length is an object of its own: the
// word that ends a stream may stand in it, too.
func (p *pdf) measure() {
	for _, o := range p.objects {
		if ref, ok := o.dict()["Length"].(pdfRef); ok && o.stream != nil {
			if n, ok := p.resolve(ref).(float64); ok {
				if b := pdfStreamOfLength(p.r.file.Data, o.from, n); b != nil {
					o.stream = b
				}
			}
		}
	}
}

// resolve follows references.
func (p *pdf) resolve(v any) any {
	for range 10 {
		ref, ok := v.(pdfRef)
		if !ok {
			return v
		}
		o := p.byNum[int(ref)]
		if o == nil {
			return nil
		}
		v = o.val
	}
	return nil
}

func (p *pdf) object(v any) *pdfObject {
	if ref, ok := v.(pdfRef); ok {
		return p.byNum[int(ref)]
	}
	return nil
}

func (p *pdf) int(v any) int {
	f, _ := p.resolve(v).(float64)
	return int(f)
}

func (p *pdf) str(v any) []byte {
	s, _ := p.resolve(v).(pdfString)
	return s
}

// decryptAll finds whether the file is encrypted, and decrypts its strings;
// false: that takes a password that nobody knows.
func (p *pdf) decryptAll() bool {
	var enc pdfDict
	var encObject *pdfObject
	var id []byte
	all := p.trailers
	for _, o := range p.objects {
		if d := o.dict(); d["Type"] == pdfName("XRef") {
			all = append(all, d)
		}
	}
	for _, t := range all {
		if d, ok := p.resolve(t["Encrypt"]).(pdfDict); ok {
			enc, encObject = d, p.object(t["Encrypt"])
			if ids, ok := p.resolve(t["ID"]).(pdfArray); ok && len(ids) > 0 {
				id = p.str(ids[0])
			}
		}
	}
	if enc == nil {
		return true
	}
	if p.crypt = p.unlock(enc, id); p.crypt == nil {
		return false
	}
	if p.crypt.none {
		return true
	}
	for _, o := range p.objects {
		if o != encObject && o.dict()["Type"] != pdfName("XRef") {
			o.val = p.crypt.openStrings(o, o.val)
		}
	}
	return true
}

// unpackObjects reads the object streams.
func (p *pdf) unpackObjects() (hashed bool, err error) {
	for _, o := range p.objects[:len(p.objects):len(p.objects)] {
		if o.dict()["Type"] != pdfName("ObjStm") || o.stream == nil {
			continue
		}
		b, err := p.decode(o)
		if err != nil {
			return false, err
		}
		l := pdfLexer{data: b}
		first := p.int(o.dict()["First"])
		for range p.int(o.dict()["N"]) {
			num, ok := l.value(0).(float64)
			off, ok2 := l.value(0).(float64)
			if !ok || !ok2 {
				break
			}
			if len(p.objects) >= maxPDFObjects {
				return false, errPDFLimit
			}
			if at := first + int(off); at >= 0 && at < len(b) {
				in := pdfLexer{data: b, at: at}
				x := &pdfObject{num: int(num), val: in.value(0), packed: true}
				if in.over {
					return false, errPDFLimit
				}
				hashed = hashed || in.hashed
				p.objects = append(p.objects, x)
				if p.byNum[x.num] == nil || p.byNum[x.num].packed {
					p.byNum[x.num] = x
				}
			}
		}
	}
	return hashed, nil
}

// visit looks at every dictionary in a value.
func (p *pdf) visit(o *pdfObject, v any, depth int) error {
	if depth > maxPDFDepth {
		return nil
	}
	switch v := v.(type) {
	case pdfArray:
		for _, x := range v {
			if err := p.visit(o, x, depth+1); err != nil {
				return err
			}
		}
	case pdfDict:
		if err := p.dictionary(o, v); err != nil {
			return err
		}
		for _, x := range v {
			switch x.(type) {
			case pdfArray, pdfDict:
				if err := p.visit(o, x, depth+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *pdf) dictionary(o *pdfObject, d pdfDict) error {
	if a, ok := p.resolve(d["OpenAction"]).(pdfDict); ok && a["S"] != nil || d["AA"] != nil {
		p.auto = true
	}
	if names, ok := p.resolve(d["Names"]).(pdfDict); ok && names["JavaScript"] != nil {
		p.auto = true // Scripts of the name tree run when a file is opened.
	}
	if js, ok := d["JS"]; ok {
		if err := p.javaScript(js); err != nil {
			return err
		}
	}
	if s, ok := p.resolve(d["S"]).(pdfName); ok {
		p.action(string(s), d)
	}
	if ef, ok := p.resolve(d["EF"]).(pdfDict); ok {
		if err := p.embedded(d, ef); err != nil {
			return err
		}
	}
	switch p.resolve(d["Subtype"]) {
	case pdfName("RichMedia"), pdfName("Screen"), pdfName("3D"):
		p.r.sign("PDF.RichMedia", 1, "it holds a film or a moving model")
	}
	if d["Type"] == pdfName("EmbeddedFile") && o.stream != nil && !p.taken[o] {
		if err := p.take(o, ""); err != nil {
			return err
		}
	}
	if x := d["XFA"]; x != nil {
		return p.xfa(x)
	}
	return nil
}

// fileName is the path or address in a file specification.
func (p *pdf) fileName(v any) string {
	switch v := p.resolve(v).(type) {
	case pdfString:
		return pdfText(v)
	case pdfDict:
		for _, k := range []string{"UF", "F", "Unix", "DOS", "Mac"} {
			if s := pdfText(p.str(v[k])); s != "" {
				return s
			}
		}
	}
	return ""
}

func (p *pdf) action(kind string, d pdfDict) {
	switch kind {
	case "URI":
		p.r.link(pdfText(p.str(d["URI"])), "")
	case "Launch":
		p.launch(d)
	case "SubmitForm", "ImportData":
		target := p.fileName(d["F"])
		p.r.link(target, "")
		p.r.sign("PDF.SubmitForm", 1, "it sends what is filled in to an address: "+clip(target, 120), "target", target)
		p.share(target)
	case "GoToR", "GoToE", "Thread":
		target := p.fileName(d["F"])
		if isWeb(target) {
			p.r.link(target, "")
			p.r.sign("PDF.RemoteFile", 1, "it opens a file from elsewhere: "+clip(target, 120), "target", target)
		}
		if kind == "GoToE" {
			p.r.sign("PDF.OpensEmbedded", 1, "it opens a file that is embedded in it")
		}
		p.share(target)
	}
}

// share notes an address that gives away the password hash of whoever opens it.
func (p *pdf) share(target string) {
	if IsShare(pdfPath(target)) || IsShare(target) {
		p.r.suspect("PDF.Share", 8, "it opens a file of a foreign network share, which sends the reader's password hash there", "target", target)
	}
}

// pdfPath writes //host/share for the \\host\share that comes as /host or \\\\.
func pdfPath(s string) string { return strings.ReplaceAll(s, `\\`, `\`) }

func (p *pdf) launch(d pdfDict) {
	target, args := p.fileName(d["F"]), ""
	if w, ok := p.resolve(d["Win"]).(pdfDict); ok {
		if t := p.fileName(w["F"]); t != "" {
			target = t
		}
		args = pdfText(p.str(w["P"]))
	}
	line := strings.TrimSpace(target + " " + args)
	if commands.MatchString(line) || IsShare(target) || args != "" || isWeb(target) {
		p.r.suspect("PDF.Launch.Command", 10, "it starts another program: "+clip(line, 120), "command", line)
		return
	}
	p.r.sign("PDF.Launch", 3, "it opens another file: "+clip(line, 120), "target", line)
}

// javaScript gathers a script, which is a string or a stream.
func (p *pdf) javaScript(v any) error {
	src := []byte(pdfText(p.str(v)))
	if o := p.object(v); o != nil && o.stream != nil && !p.taken[o] {
		p.taken[o] = true
		b, err := p.decode(o)
		if err != nil {
			return err
		}
		src = []byte(pdfText(b))
	}
	if p.scripts.Len()+len(src) < maxMacro {
		p.scripts.Write(src)
		p.scripts.WriteByte('\n')
	}
	return nil
}

// Calls that attack a reader, or that no form needs.
var (
	pdfExploit = regexp.MustCompile(`(?i)(collab\.(?:collectemailinfo|geticon)|media\.newplayer|util\.printf\s*\(\s*["']%4500|spell\.customdictionaryopen|unescape\s*\(|\beval\s*\(|string\.fromcharcode|%u[0-9a-f]{4}%u[0-9a-f]{4}|exportdataobject|importdataobject|app\.(?:newfg|opendoc)|soap\.(?:request|connect)|net\.http|xfa\.host\.gotourl|getdataobjectcontents|rmaterial|launchaction)`)
	pdfReach   = regexp.MustCompile(`(?i)(app\.launchurl|this\.submitform|\bgeturl\s*\(|app\.mailmsg|this\.mailform|maildoc)`)
)

// script judges the scripts of a file. Forms calculate with them, so that one
// by itself says little.
func (p *pdf) script() {
	src := p.scripts.Bytes()
	if len(bytes.TrimSpace(src)) == 0 {
		return
	}
	p.r.code("javascript", src)
	switch bad, reach := names(pdfExploit, src), names(pdfReach, src); {
	case bad != "":
		p.r.suspect("PDF.JavaScript.Exploit", 8, "a script in it does what no form needs: "+bad, "calls", bad)
	case reach != "" && p.auto:
		p.r.suspect("PDF.JavaScript.AutoReach", 7, "a script in it starts by itself and opens an address or sends something: "+reach, "calls", reach)
	case p.auto:
		p.r.sign("PDF.JavaScript.Start", 1.5, "a script in it starts by itself when it is opened")
	default:
		p.r.sign("PDF.JavaScript", 1, "there are scripts in it")
	}
}

var xfaScript = regexp.MustCompile(`(?is)<script\b[^>]*>(.+?)</script>`)

// xfa reads the XML of a form: one stream, or several that belong together.
func (p *pdf) xfa(v any) error {
	list, ok := p.resolve(v).(pdfArray)
	if !ok {
		list = pdfArray{v}
	}
	var all bytes.Buffer
	for _, x := range list[:min(len(list), 100)] {
		if o := p.object(x); o != nil && o.stream != nil && !p.taken[o] {
			p.taken[o] = true
			b, err := p.decode(o)
			if err != nil {
				return err
			}
			all.Write(b)
		}
	}
	if all.Len() == 0 {
		return nil
	}
	p.r.sign("PDF.XFA", 0.5, "it is a form of the XFA kind")
	for _, m := range xfaScript.FindAllSubmatch(all.Bytes()[:min(all.Len(), maxJudged)], 100) {
		if p.scripts.Len()+len(m[1]) < maxMacro {
			p.scripts.Write(m[1])
			p.scripts.WriteByte('\n')
		}
	}
	return nil
}

// embedded takes out the file of a file specification.
func (p *pdf) embedded(spec, ef pdfDict) error {
	name := p.fileName(spec)
	for _, k := range []string{"UF", "F", "Unix", "DOS", "Mac"} {
		if o := p.object(ef[k]); o != nil && o.stream != nil && !p.taken[o] {
			if err := p.take(o, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pdf) take(o *pdfObject, name string) error {
	p.taken[o] = true
	b, err := p.decode(o)
	if err != nil {
		return err
	}
	kind, _ := p.resolve(o.dict()["Subtype"]).(pdfName)
	return p.r.embed(name, strings.ToLower(string(kind)), b)
}

// pdfText reads a text string: UTF-16 or UTF-8 by its mark, else Latin.
func pdfText(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte("\xfe\xff")):
		return utf16BE(b[2:])
	case bytes.HasPrefix(b, []byte("\xff\xfe")):
		return utf16String(b[2:])
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return string(b[3:])
	}
	return latin1(b)
}

func utf16BE(b []byte) string {
	u := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u = append(u, uint16(b[0])<<8|uint16(b[1]))
	}
	return string(utf16.Decode(u))
}
