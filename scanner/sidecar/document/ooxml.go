package document

import (
	"bytes"
	"encoding/xml"
	"html"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Package gathers the files of a zip archive that is a document, while it is
// unpacked, to be looked at together.
type Package struct {
	files map[string][]byte
	size  int
	over  bool // not all of it was kept
}

// Bounds of the XML of a document that is kept for that.
const (
	maxPackage = 64 << 20 // bytes
	maxFiles   = 5000
	// maxSheet is for what only has text: more of it than fits into maxText is in
	// its first bytes. Workbooks that are exported by programs have sheets of 100 MB.
	maxSheet = 8 << 20
)

// NewPackage returns a package for an archive that holds a document by the names
// of its files, else nil.
func NewPackage(names []string) *Package {
	for _, n := range names {
		switch strings.ToLower(n) {
		case "[content_types].xml", "content.xml", "meta-inf/manifest.xml":
			return &Package{files: map[string][]byte{}}
		}
	}
	return nil
}

// Add takes one file. A nil package takes none.
func (p *Package) Add(name string, data []byte) {
	if p == nil {
		return
	}
	name = strings.ToLower(strings.TrimPrefix(strings.ReplaceAll(name, `\`, "/"), "/"))
	switch path.Ext(name) {
	case ".xml", ".rels", ".bin":
		if dir := path.Dir(name); dir == "xl/worksheets" || name == "xl/sharedstrings.xml" {
			data = data[:min(len(data), maxSheet)]
		}
		if p.size += len(data); p.size > maxPackage || len(p.files) >= maxFiles {
			p.over = true
			return
		}
		data = plainXML(data)
		if have, twice := p.files[name]; twice { // Programs take one or the other.
			data = slices.Concat(have, data)
		}
		p.files[name] = data
	}
}

// plainXML is XML in UTF-16, which Office reads too, as UTF-8. It need not have a
// mark at its front (XML 1.0, appendix F).
func plainXML(b []byte) []byte {
	switch {
	case bytes.HasPrefix(b, []byte("<\x00")):
		return []byte(utf16String(b))
	case bytes.HasPrefix(b, []byte("\x00<")):
		return []byte(utf16BE(b))
	}
	return plainText(b)
}

// Open looks into the document: relations to elsewhere, fields, macro sheets,
// text. What is embedded in it, its macros included, are files of the archive.
func (p *Package) Open(f File, lim Limits) (*Found, error) {
	r := newReader(f, lim)
	err := r.guard(func() error {
		if p.over {
			return ErrBytes
		}
		return r.pack(p.files)
	})
	return r.done(), err
}

func (r *reader) pack(files map[string][]byte) error {
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.SortFunc(names, byNumber)
	var macroSheets, hidden, auto bool
	var basic bytes.Buffer
	for _, n := range names {
		b := files[n]
		if err := r.took(0); err != nil {
			return err
		}
		base := path.Base(n)
		switch {
		case strings.HasSuffix(n, ".rels"):
			r.relations(n, b)
		case isMacroSheet(n, b):
			macroSheets = true
			r.code("xlm", b)
		case base == "workbook.xml", base == "workbook.bin", path.Dir(n) == "xl" && bytes.Contains(b[:min(len(b), maxJudged)], []byte("definedName")):
			h, a := definedNames(b)
			hidden, auto = hidden || h, auto || a
		case n == "meta-inf/manifest.xml":
			if bytes.Contains(b, []byte("encryption-data")) {
				r.locked("a document in it is encrypted: %s", r.file.Name)
			}
		case strings.HasPrefix(n, "basic/"):
			basic.WriteString(html.UnescapeString(string(b)))
		case strings.HasPrefix(n, "xl/externallinks/"):
			r.externalLink(b)
		case strings.HasPrefix(base, "activex") && strings.HasSuffix(n, ".xml"):
			r.sign("Document.ActiveX", 1, "it holds controls that are programs (ActiveX)")
		case base == "vbaproject.bin", !strings.HasSuffix(n, ".xml"):
		default:
			if err := r.content(n, b); err != nil {
				return err
			}
		}
	}
	if macroSheets {
		r.xlmSheets(files, auto, hidden)
	}
	r.macro(basic.Bytes())
	return nil
}

// isMacroSheet says whether a file of a workbook has Excel 4 macros. It has its name
// from its maker, and its root element from Excel.
func isMacroSheet(name string, b []byte) bool {
	return strings.HasPrefix(name, "xl/macrosheets/") ||
		strings.HasPrefix(name, "xl/") && strings.HasSuffix(name, ".xml") && bytes.Contains(b[:min(len(b), 4096)], []byte("macrosheet"))
}

// byNumber orders names so that slide10 comes after slide9.
func byNumber(a, b string) int {
	if len(a) != len(b) && path.Dir(a) == path.Dir(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// relation is one line of a .rels file.
type relation struct {
	Type   string `xml:"Type,attr"`
	Target string `xml:"Target,attr"`
	Mode   string `xml:"TargetMode,attr"`
}

// relations judges what a document refers to.
func (r *reader) relations(_ string, b []byte) {
	d := relaxed(b)
	for n := 0; n < 20_000; n++ {
		tok, err := d.Token()
		if err != nil {
			return
		}
		e, ok := tok.(xml.StartElement)
		if !ok || e.Name.Local != "Relationship" {
			continue
		}
		var rel relation
		for _, a := range e.Attr {
			switch strings.ToLower(a.Name.Local) {
			case "type":
				rel.Type = a.Value
			case "target":
				rel.Target = strings.TrimSpace(a.Value)
			case "targetmode":
				rel.Mode = a.Value
			}
		}
		r.relation(rel)
	}
}

func (r *reader) relation(rel relation) {
	kind := strings.ToLower(path.Base(rel.Type))
	if kind == "afchunk" {
		r.sign("Document.AltChunk", 1.5, "it takes in another document, which Word converts when it is opened")
	}
	if !strings.EqualFold(rel.Mode, "External") {
		return
	}
	remote := isWeb(rel.Target) || IsShare(rel.Target)
	switch {
	case kind == "hyperlink":
		r.link(rel.Target, "")
		r.startsProgram(rel.Target)
		if IsShare(rel.Target) {
			r.sign("Document.ShareLink", 1, "a link in it leads to a network share", "target", rel.Target)
		}
	case !remote:
	case kind == "attachedtemplate":
		r.link(rel.Target, "")
		r.suspect("Document.RemoteTemplate", 8, "when it is opened, it loads a template, which may hold macros, from elsewhere: "+clip(rel.Target, 150), "target", rel.Target)
	case kind == "image" || kind == "video" || kind == "audio" || kind == "media":
		if IsShare(rel.Target) {
			r.remoteObject(rel.Target, kind)
		} else {
			r.sign("Document.RemoteImage", 0.5, "it loads a picture from the web when it is opened", "target", rel.Target)
		}
	case kind == "oleobject" || kind == "frame" || kind == "afchunk" || kind == "subdocument" || kind == "package" || kind == "control":
		r.remoteObject(rel.Target, kind)
	case kind == "externallinkpath":
		r.sign("Document.ExternalLink", 0.5, "it takes values from another workbook", "target", rel.Target)
	case IsShare(rel.Target):
		r.remoteObject(rel.Target, kind)
	}
}

// relaxed reads XML that may be broken, and knows no entities but the usual.
func relaxed(b []byte) *xml.Decoder {
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	return d
}

var ddeLink = regexp.MustCompile(`(?is)<(?:\w+:)?ddeLink\b[^>]*`)
var ddeAttr = regexp.MustCompile(`(?i)(?:ddeService|ddeTopic)\s*=\s*"([^"]*)"`)

// externalLink finds DDE links of a workbook, which name a program.
func (r *reader) externalLink(b []byte) {
	b = b[:min(len(b), maxJudged)]
	for _, m := range ddeLink.FindAll(b, 100) {
		code := "DDE"
		for _, a := range ddeAttr.FindAllSubmatch(m, 10) {
			code += " " + string(a[1])
		}
		r.dde(code)
	}
}

var (
	hiddenSheet = regexp.MustCompile(`(?i)state\s*=\s*"(?:very)?hidden"`)
	autoName    = regexp.MustCompile(`(?i)<(?:\w+:)?definedName\b[^>]*name\s*=\s*"(?:_xlnm\.)?auto_?(?:open|close|activate)`)
)

func definedNames(b []byte) (hidden, auto bool) {
	b = b[:min(len(b), maxJudged)]
	if bytes.IndexByte(b[:min(len(b), 16)], '<') < 0 { // the binary form: names are UTF-16
		return false, bytes.Contains(bytes.ReplaceAll(lower(b), []byte{0}, nil), []byte("auto_open"))
	}
	return hiddenSheet.Match(b), autoName.Match(b)
}

var xlmFunction = regexp.MustCompile(`\b(EXEC|CALL|REGISTER|FOPEN|FWRITE|FWRITELN)\s*\(`)

// xlmSheets judges the macro sheets of a workbook.
func (r *reader) xlmSheets(files map[string][]byte, auto, hidden bool) {
	calls := map[string]bool{}
	var text strings.Builder
	for n, b := range files {
		if !isMacroSheet(n, b) {
			continue
		}
		if strings.HasSuffix(n, ".bin") {
			(&biff{r: r, calls: calls}).formula(b)
			text.Write(bytes.ReplaceAll(b, []byte{0}, nil))
		} else {
			for _, m := range xlmFunction.FindAllSubmatch(b[:min(len(b), maxJudged)], 1000) {
				calls[string(m[1])] = true
			}
			text.Write(b)
		}
	}
	r.xlm(true, auto, hidden, calls, text.String())
}

// content reads the XML of a text, sheet or slide: what it says, and its fields.
func (r *reader) content(name string, b []byte) error {
	dir := path.Dir(name)
	switch {
	case name == "content.xml":
		r.openDocument(b)
	case strings.HasPrefix(dir, "word") && bytes.Contains(b, []byte("nstr")) || bytes.Contains(b, []byte("fldSimple")):
	case dir == "word", name == "xl/sharedstrings.xml", dir == "xl/worksheets", dir == "ppt/slides", dir == "ppt/notesslides", dir == "xl/comments", dir == "word/diagrams":
	default:
		return nil
	}
	if skipText[path.Base(name)] {
		return nil
	}
	return r.markup(b, dir)
}

// skipText are files of a document that say nothing.
var skipText = map[string]bool{"styles.xml": true, "settings.xml": true, "fonttable.xml": true, "websettings.xml": true, "numbering.xml": true, "styleswitheffects.xml": true}

// markup is the text of one file. A field's instruction may be split over many
// runs, and fields stand in fields.
func (r *reader) markup(b []byte, dir string) error {
	d := relaxed(b)
	var in []string     // names of elements
	var fields []string // instructions of the fields that are open
	sheet, shared := strings.HasPrefix(dir, "xl/worksheets"), false
	for n := 0; ; n++ {
		if n%5000 == 0 {
			if err := r.late(); err != nil {
				return err
			}
		}
		tok, err := d.Token()
		if err != nil {
			break
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if len(in) < 200 {
				in = append(in, t.Name.Local)
			}
			switch t.Name.Local {
			case "fldSimple":
				r.field(attr(t, "instr"))
			case "fldChar":
				fields = r.fieldChar(fields, attr(t, "fldCharType"))
			case "c":
				shared = attr(t, "t") == "s"
			case "tab":
				r.say("", "\t")
			case "br", "cr":
				r.say("", "\n")
			}
		case xml.EndElement:
			if len(in) > 0 {
				in = in[:len(in)-1]
			}
			switch t.Name.Local {
			case "p", "si", "row", "tr", "h", "table-row":
				r.say("", "\n")
			case "c", "tc", "table-cell":
				r.say("", " ")
			}
		case xml.CharData:
			place := ""
			if len(in) > 0 {
				place = in[len(in)-1]
			}
			switch {
			case place == "instrText" || place == "delInstrText":
				if len(fields) > 0 && len(fields[len(fields)-1]) < 4000 {
					fields[len(fields)-1] += string(t)
				} else if len(fields) == 0 {
					r.field(string(t))
				}
			case place == "t", sheet && place == "v" && !shared, dir == "." && place != "":
				r.say("", string(t))
			}
		}
	}
	for _, f := range fields {
		r.field(f)
	}
	r.say("", "\n")
	return nil
}

func (r *reader) fieldChar(fields []string, kind string) []string {
	switch kind {
	case "begin":
		if len(fields) < 100 {
			fields = append(fields, "")
		}
	case "separate", "end":
		if n := len(fields); n > 0 {
			r.field(fields[n-1])
			if kind == "separate" {
				fields[n-1] = ""
				break
			}
			fields = fields[:n-1]
			if n > 1 && len(fields[n-2]) < 4000 {
				fields[n-2] += " "
			}
		}
	}
	return fields
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if strings.EqualFold(a.Name.Local, name) {
			return a.Value
		}
	}
	return ""
}

var (
	odfAuto = regexp.MustCompile(`(?i)<script:event-listener\b[^>]*event-name\s*=\s*"(?:dom:load|office:(?:new|load-finished)|dom:unload)"`)
	odfHref = regexp.MustCompile(`(?i)<(?:draw:object-ole|draw:object|text:section-source|table:table-source|office:dde-source)\b[^>]*xlink:href\s*=\s*"((?:https?|file|ftp):[^"]+|//[^"]+)"`)
	odfLink = regexp.MustCompile(`(?i)<text:a\b[^>]*xlink:href\s*=\s*"([^"]+)"`)
	odfDDE  = regexp.MustCompile(`(?i)<office:dde-source\b[^>]*`)
)

// openDocument looks at a document of LibreOffice.
func (r *reader) openDocument(b []byte) {
	b = b[:min(len(b), maxJudged)]
	if m := odfAuto.Find(b); m != nil {
		r.suspect("Document.Macro.AutoExec", 7, "a macro in it starts by itself when it is opened")
	}
	if m := odfHref.FindSubmatch(b); m != nil {
		r.remoteObject(string(m[1]), "object")
	}
	if m := odfDDE.Find(b); m != nil {
		r.dde(string(m))
	}
	for _, m := range odfLink.FindAllSubmatch(b, maxLinks) {
		r.link(string(m[1]), "")
	}
}

// flatXML reads a Word document that is one file of XML (Word 2003, or a package
// in XML): binary parts stand in it as base64.
func (r *reader) flatXML() error {
	b := plainXML(r.file.Data)
	r.table(b[:min(len(b), maxJudged)]) // Excel keeps formulas in such files as they are.
	if bytes.Contains(b[:min(len(b), 64<<10)], []byte("tc:opendocument")) {
		r.openDocument(b)
	}
	d := relaxed(b)
	inside := false
	for n := 0; ; n++ {
		if n%1000 == 0 {
			if err := r.late(); err != nil {
				return err
			}
		}
		tok, err := d.Token()
		if err != nil {
			break
		}
		switch t := tok.(type) {
		case xml.StartElement:
			inside = t.Name.Local == "binData" || t.Name.Local == "binaryData" || t.Name.Local == "docOleData" || t.Name.Local == "binary-data"
			switch t.Name.Local {
			case "Relationship":
				r.relation(relation{attr(t, "Type"), attr(t, "Target"), attr(t, "TargetMode")})
			case "attachedTemplate":
				r.relation(relation{"attachedTemplate", attr(t, "val"), "External"})
			}
		case xml.CharData:
			if inside {
				b := looseBase64(t)
				if err := r.took(len(b)); err != nil {
					return err
				}
				if b, err = r.unMSO(b); err != nil {
					return err
				}
				if err := r.embed("object.bin", "", b); err != nil {
					return err
				}
			}
			inside = false
		}
	}
	return r.markup(b, "word")
}
