package document

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// maxStream bounds one stream that is looked at; what is longer is cut.
const maxStream = 64 << 20

// ole looks into a compound file: a document of old, a mail of Outlook, an
// installer, a VBA project, or an object out of another document.
func (r *reader) ole() error {
	c, ok := parseCFB(r.file.Data)
	if !ok {
		return nil // Something else that starts like one; its raw bytes are matched.
	}
	var macros bytes.Buffer
	err := r.streams(c, &macros)
	r.macro(macros.Bytes())
	if err != nil {
		return err
	}
	if c.find("EncryptedPackage") >= 0 {
		return r.encryptedPackage(c)
	}
	for name, read := range map[string]func(c *compound, b []byte) error{
		"WordDocument":            r.word,
		"Workbook":                r.workbook,
		"Book":                    r.workbook,
		"PowerPoint Document":     r.powerPoint,
		"__properties_version1.0": r.outlook,
	} {
		if n := c.find(name); n >= 0 {
			b, _ := c.stream(n)
			if err := read(c, b); err != nil {
				return err
			}
		}
	}
	if c.find("EncryptedSummary") >= 0 {
		r.locked("a presentation in it is encrypted: %s", r.file.Name)
	}
	r.installer(c)
	return nil
}

// streams looks at every stream by what it is called and holds.
func (r *reader) streams(c *compound, macros *bytes.Buffer) error {
	for n, e := range c.entries {
		if err := r.late(); err != nil {
			return err
		}
		r.class(e)
		if e.Storage || e.size == 0 || e.Name == "WordDocument" || e.Name == "EncryptedPackage" || n == 0 {
			continue
		}
		b, ok := c.stream(n)
		if !ok {
			return ErrBytes
		}
		b = b[:min(len(b), maxStream)]
		src := vbaSource(b)
		if strings.EqualFold(c.entries[e.parent].Name, "VBA") {
			r.stomped(e.Name, b, src)
		}
		if src != nil {
			if err := r.took(len(src)); err != nil {
				return err
			}
			macros.Write(src)
			macros.WriteByte('\n')
			continue
		}
		if err := r.stream(e, b); err != nil {
			return err
		}
	}
	return nil
}

// stream looks at one stream of any compound file.
func (r *reader) stream(e cfbEntry, b []byte) error {
	switch name := strings.ToLower(e.Name); {
	case name == "\x01ole10native":
		return r.ole10Native(b)
	case name == "package", name == "contents", name == "\x01ole10itemname":
		if len(b) > 4 && (bytes.HasPrefix(b, []byte("PK")) || bytes.HasPrefix(b, cfbMagic) || hasPDF(b)) {
			if err := r.took(len(b)); err != nil {
				return err
			}
			return r.embed("", "", b)
		}
	case name == "\x01ole", name == "linkinfo":
		r.moniker(b)
	case name == "equation native":
		r.equation(b)
	case strings.HasPrefix(name, "_vba_project_cur") || name == "xlm":
	case isProgram(b):
		if err := r.took(len(b)); err != nil {
			return err
		}
		return r.embed(printable(e.Name)+".exe", "", b)
	}
	return nil
}

// isProgram says whether bytes are a Windows program.
func isProgram(b []byte) bool {
	if len(b) < 0x40 || !bytes.HasPrefix(b, []byte("MZ")) {
		return false
	}
	at := binary.LittleEndian.Uint32(b[0x3c:])
	return uint64(at)+4 <= uint64(len(b)) && string(b[at:at+4]) == "PE\x00\x00"
}

// ole10Native takes out the file of a package (MS-OLEDS §2.3.6; the layout of
// its data is that of the packager of Windows).
func (r *reader) ole10Native(b []byte) error {
	if len(b) < 6 {
		return nil
	}
	name, data := parsePackage(b[4:])
	if data == nil {
		name, data = "", b[4:]
	}
	if err := r.took(len(data)); err != nil {
		return err
	}
	return r.embed(name, "", data)
}

// parsePackage reads a packager's object: label, path, command, data.
func parsePackage(b []byte) (name string, data []byte) {
	if len(b) < 8 || binary.LittleEndian.Uint16(b) != 2 {
		return "", nil
	}
	label, rest, ok := bytes.Cut(b[2:], []byte{0})
	if !ok || len(label) > 1000 {
		return "", nil
	}
	path, rest, ok := bytes.Cut(rest, []byte{0})
	if !ok || len(rest) < 8 {
		return "", nil
	}
	n := binary.LittleEndian.Uint32(rest[4:])
	if rest = rest[8:]; uint64(n)+4 > uint64(len(rest)) {
		return "", nil
	}
	rest = rest[n:]
	size := binary.LittleEndian.Uint32(rest)
	data = rest[4:min(uint64(len(rest)), 4+uint64(size))]
	if name = string(label); !strings.Contains(name, ".") && len(path) > 0 {
		name = string(path)
	}
	return name, data
}

// Classes of objects, as they stand in a file.
const (
	classEquation   = "02ce020000000000c000000000000046"
	classURLMoniker = "e0c9ea79f9bace118c8200aa004ba90b"
	classScript     = "c6afabec197fd211978e0000f8757e2a" // new moniker, CVE-2017-8570
	classSoap       = "c7b0abec197fd211978e0000f8757e2a"
	classHTA        = "d8f45030b598cf11bb8200aa00bdce0b" // htafile
	classMSI        = "84100c0000000000c000000000000046"
	classFlash      = "6edb7cd26daecf1196b8444553540000"
)

// class looks at the class that an entry says it is of.
func (r *reader) class(e cfbEntry) {
	switch hex.EncodeToString(e.CLSID[:]) {
	case classEquation:
		r.sign("Document.Equation", 1, "it holds an object of the old equation editor, which is no longer part of Office because it could be attacked")
	case classScript, classHTA:
		r.suspect("Document.ScriptObject", 9, "an object in it runs a script as soon as it is opened")
	case classFlash:
		r.sign("Document.Flash", 2, "it holds a Flash film")
	}
}

// moniker finds where a linked object comes from.
func (r *reader) moniker(b []byte) {
	h := func(s string) []byte { d, _ := hex.DecodeString(s); return d }
	if bytes.Contains(b, h(classScript)) || bytes.Contains(b, h(classSoap)) {
		r.suspect("Document.ScriptObject", 9, "an object in it runs a script as soon as it is opened")
	}
	i := bytes.Index(b, h(classURLMoniker))
	if i < 0 {
		return
	}
	target := strings.TrimSpace(strings.SplitN(utf16String(b[min(i+20, len(b)):min(i+20+4096, len(b))]), "\x00", 2)[0])
	if target == "" {
		return
	}
	r.remoteObject(target, "object")
}

// remoteObject judges what a document loads by itself from elsewhere.
func (r *reader) remoteObject(target, what string) {
	r.link(target, "")
	r.suspect("Document.RemoteObject", 8, "when it is opened, it loads an object from elsewhere: "+clip(target, 150), "target", target, "kind", what)
}

// equation looks for the font name that overruns the equation editor's buffer
// (CVE-2017-11882, CVE-2018-0802).
func (r *reader) equation(b []byte) {
	r.sign("Document.Equation", 1, "it holds an object of the old equation editor, which is no longer part of Office because it could be attacked")
	if len(b) < 28+5 {
		return
	}
	b = b[28+5:] // EQNOLEFILEHDR, header of MTEF
	for n := 0; n < 8 && len(b) > 4; n++ {
		if b[0]&0x0f == 8 { // a font: face, style, name
			name, _, _ := bytes.Cut(b[3:], []byte{0})
			if len(name) > 36 {
				r.suspect("Document.EquationExploit", 9, "it holds an equation that attacks the old equation editor (CVE-2017-11882)", "bytes", fmt.Sprint(len(name)))
			}
			return
		}
		b = b[1:]
	}
}

// installer notes a package of the Windows installer, which runs what it likes.
func (r *reader) installer(c *compound) {
	if hex.EncodeToString(c.entries[0].CLSID[:]) == classMSI || r.file.Type == "application/x-ms-installer" {
		r.suspect("Type.Installer", 8, "it is a package of the Windows installer, which runs programs of its sender")
	}
}

// powerPoint walks the records of a presentation of old (MS-PPT §2.3.1): text,
// and the objects and macros that are packed in it.
func (r *reader) powerPoint(_ *compound, b []byte) error {
	for n := 0; len(b) >= 8; n++ {
		if n%1000 == 0 {
			if err := r.late(); err != nil {
				return err
			}
		}
		ver, kind, size := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		b = b[8:]
		if ver&0x0f == 0x0f {
			continue // A container: its records follow.
		}
		body := b[:min(uint64(len(b)), uint64(size))]
		b = b[len(body):]
		switch kind {
		case 4000:
			r.say("\n", strings.ReplaceAll(utf16String(body), "\r", "\n"))
		case 4008:
			r.say("\n", latin1(bytes.ReplaceAll(body, []byte("\r"), []byte("\n"))))
		case 0x1011: // ExOleObjStg, packed where its instance is 1
			if err := r.packedObject(body, ver>>4 == 1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) packedObject(b []byte, packed bool) error {
	if packed && len(b) > 4 {
		z, err := zlib.NewReader(bytes.NewReader(b[4:]))
		if err != nil {
			return nil
		}
		if b, err = r.unpack(z, maxStream); err != nil {
			return err
		}
	}
	return r.embed("object.ole", "", b)
}

// unpack reads at most most bytes of a decoder; the rest is left out. What comes
// out before a fault counts.
func (r *reader) unpack(from io.Reader, most int) ([]byte, error) {
	room := r.left(most)
	b, _ := io.ReadAll(io.LimitReader(&checked{from, r}, int64(room)+1))
	if err := r.late(); err != nil {
		return nil, err
	}
	if len(b) > room {
		if room < most {
			return nil, ErrBytes
		}
		b = b[:room]
	}
	return b, r.took(len(b))
}

// checked ends a reading that takes too long.
type checked struct {
	io.Reader
	r *reader
}

func (c *checked) Read(p []byte) (int, error) {
	if err := c.r.late(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// latin1 reads bytes as Windows-1252, near enough for what rules look for.
func latin1(b []byte) string {
	out := make([]rune, 0, len(b))
	for _, c := range b {
		out = append(out, rune(c))
	}
	return string(out)
}

// printable takes control characters off a stream's name.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == '/' {
			return -1
		}
		return c
	}, s)
}
