package document

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// stream is a stream of a compound file that a test builds.
type stream struct {
	storage, name string
	data          []byte
}

// buildCFB writes a compound file: 512-byte sectors, streams of any size in
// sectors of their own (padded to 4,096 bytes, so that there is no mini stream),
// and storages of one level.
func buildCFB(clsid string, streams ...stream) []byte {
	type entry struct {
		name  string
		kind  byte
		child uint32
		right uint32
		start uint32
		size  int
		clsid []byte
	}
	const none = 0xffffffff
	id, _ := hex.DecodeString(clsid)
	entries := []entry{{name: "Root Entry", kind: 5, child: none, right: none, start: 0xfffffffe, clsid: id}}
	at := map[string]int{"": 0}
	last := map[string]int{}
	link := func(storage string, n int) {
		if l, ok := last[storage]; ok {
			entries[l].right = uint32(n)
		} else {
			entries[at[storage]].child = uint32(n)
		}
		last[storage] = n
	}
	var body []byte
	var fat []uint32
	add := func(b []byte) uint32 {
		start := uint32(len(fat))
		n := (len(b) + 511) / 512
		body = append(body, b...)
		body = append(body, make([]byte, n*512-len(b))...)
		for i := range n {
			fat = append(fat, start+uint32(i)+1)
		}
		fat[len(fat)-1] = 0xfffffffe
		return start
	}
	for _, s := range streams {
		if _, ok := at[s.storage]; !ok {
			entries = append(entries, entry{name: s.storage, kind: 1, child: none, right: none})
			at[s.storage] = len(entries) - 1
			link("", len(entries)-1)
		}
		data := s.data
		if len(data) < 4096 {
			data = append(bytes.Clone(data), make([]byte, 4096-len(data))...)
		}
		entries = append(entries, entry{name: s.name, kind: 2, child: none, right: none, start: add(data), size: len(data)})
		link(s.storage, len(entries)-1)
	}
	var dir []byte
	for _, e := range entries {
		b := make([]byte, 128)
		u := utf16.Encode([]rune(e.name))
		for i, c := range u {
			binary.LittleEndian.PutUint16(b[2*i:], c)
		}
		binary.LittleEndian.PutUint16(b[64:], uint16(2*len(u)+2))
		b[66] = e.kind
		binary.LittleEndian.PutUint32(b[68:], none)
		binary.LittleEndian.PutUint32(b[72:], e.right)
		binary.LittleEndian.PutUint32(b[76:], e.child)
		copy(b[80:], e.clsid)
		binary.LittleEndian.PutUint32(b[116:], e.start)
		binary.LittleEndian.PutUint32(b[120:], uint32(e.size))
		dir = append(dir, b...)
	}
	dirAt := add(dir)
	fatAt := uint32(len(fat))
	n := (len(fat) + 128) / 128
	for range n {
		fat = append(fat, 0xfffffffd)
	}
	for len(fat)%128 != 0 {
		fat = append(fat, none)
	}
	for _, f := range fat {
		body = binary.LittleEndian.AppendUint32(body, f)
	}
	head := make([]byte, 512)
	copy(head, cfbMagic)
	binary.LittleEndian.PutUint16(head[26:], 3)
	binary.LittleEndian.PutUint16(head[30:], 9)
	binary.LittleEndian.PutUint32(head[48:], dirAt)
	binary.LittleEndian.PutUint32(head[60:], 0xfffffffe)
	binary.LittleEndian.PutUint32(head[68:], 0xfffffffe)
	for i := 76; i < 512; i += 4 {
		v := uint32(none)
		if k := uint32(i-76) / 4; k < uint32(len(fat)/128) {
			v = fatAt + k
		}
		binary.LittleEndian.PutUint32(head[i:], v)
	}
	return append(head, body...)
}

// module is a stream of a VBA project, its source in literal tokens.
func module(source string) []byte {
	out := []byte("\x00\x00\x00\x01")
	src := "Attribute VB_Name = \"M\"\r\n" + source
	for len(src) > 0 {
		part := src[:min(len(src), 3000)]
		src = src[len(part):]
		var chunk []byte
		for i := 0; i < len(part); i += 8 {
			chunk = append(chunk, 0)
			chunk = append(chunk, part[i:min(i+8, len(part))]...)
		}
		out = binary.LittleEndian.AppendUint16(out, uint16(len(chunk)-1)|0xb000)
		out = append(out, chunk...)
	}
	return out
}

// rawModule is one whose first chunk is not compressed.
func rawModule(source string) []byte {
	src := "Attribute VB_Name = \"M\"\r\n" + source + "\r\n"
	return []byte("\x01\xff\x3f" + src + strings.Repeat("'", 4096-len(src)))
}

func wide(s string) []byte { return utf16Bytes(s) }

// native is an Ole10Native stream, or with its length taken off the data of a
// packager's object.
func native(name string, data []byte) []byte {
	b := []byte{2, 0}
	b = append(b, name+"\x00C:\\"+name+"\x00"...)
	b = append(b, 0, 0, 3, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(name)+1))
	b = append(b, name+"\x00"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func record(kind uint16, body ...byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, kind)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// buildXLS is a workbook with one sheet, of macros or not, and one formula.
func buildXLS(macro bool, name string, formula []byte) []byte {
	kind := byte(0)
	if macro {
		kind = 1
	}
	build := func(at uint32) []byte {
		b := record(recBegin, 0, 6, 5, 0, 0, 0, 0, 0)
		sheet := append(binary.LittleEndian.AppendUint32(nil, at), 0, kind, 2, 0, 'S', '1')
		b = append(b, record(recSheet, sheet...)...)
		lbl := append([]byte{0, 0, 0, byte(len(name)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, name...)
		b = append(b, record(recName, lbl...)...)
		return append(b, record(0x000a)...)
	}
	b := build(uint32(len(build(0))))
	b = append(b, record(recBegin, 0, 6, 0x10, 0, 0, 0, 0, 0)...)
	b = append(b, record(recFormula, append(make([]byte, 22), formula...)...)...)
	b = append(b, record(recLabel, append([]byte{0, 0, 0, 0, 0, 0, 9, 0, 0}, "cell text"...)...)...)
	return append(b, record(0x000a)...)
}

// packageOf runs files of a document through a [Package].
func packageOf(t *testing.T, files map[string]string) *Found {
	t.Helper()
	p := NewPackage(slices.Collect(maps.Keys(files)))
	if p == nil {
		t.Fatal("no document by its names")
	}
	for n, b := range files {
		p.Add(n, []byte(b))
	}
	found, err := p.Open(File{Name: "a.docx"}, Limits{Bytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func rels(kind, target string) string {
	return `<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/` + kind + `" Target="` + target + `" TargetMode="External"/></Relationships>`
}

func runs(parts ...string) string {
	var b strings.Builder
	b.WriteString(`<w:document xmlns:w="w"><w:body><w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r>`)
	for _, p := range parts {
		fmt.Fprintf(&b, `<w:r><w:instrText xml:space="preserve">%s</w:instrText></w:r>`, p)
	}
	b.WriteString(`<w:r><w:fldChar w:fldCharType="separate"/></w:r><w:r><w:t>shown</w:t></w:r><w:r><w:fldChar w:fldCharType="end"/></w:r></w:p></w:body></w:document>`)
	return b.String()
}

// buildPDF writes objects one after the other, without a table.
func buildPDF(objects ...string) []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n")
	for i, o := range objects {
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	b.WriteString("trailer\n<< /Root 1 0 R >>\n%%EOF\n")
	return b.Bytes()
}

func pdfStreamOf(dict string, data []byte) string {
	return fmt.Sprintf("<< %s /Length %d >>\nstream\n%s\nendstream", dict, len(data), data)
}

func deflated(data string) []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	z.Write([]byte(data))
	z.Close()
	return b.Bytes()
}

// buildLNK is a shortcut with a relative path, arguments and an icon.
func buildLNK(relative, args, icon string) []byte {
	b := make([]byte, 0x4c)
	copy(b, lnkMagic)
	binary.LittleEndian.PutUint32(b[20:], 0x08|0x20|0x40|0x80)
	for _, s := range []string{relative, args, icon} {
		u := wide(s)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(u)/2))
		b = append(b, u...)
	}
	return append(b, 0, 0, 0, 0)
}

// buildOne is a notebook with one embedded file.
func buildOne(name string, data []byte) []byte {
	b := append(bytes.Clone(oneMagic), make([]byte, 100)...)
	b = append(b, wide(name)...)
	b = append(b, 0, 0, 0, 0)
	b = append(b, oneFile...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	b = append(b, make([]byte, 12)...)
	b = append(b, data...)
	return append(b, make([]byte, 16)...)
}

// buildRTF is a file with an object.
func buildRTF(class string, data []byte, before, inside string) []byte {
	o := binary.LittleEndian.AppendUint32([]byte{1, 5, 0, 0}, 2)
	o = binary.LittleEndian.AppendUint32(o, uint32(len(class)+1))
	o = append(o, class+"\x00"...)
	o = append(o, make([]byte, 8)...)
	o = binary.LittleEndian.AppendUint32(o, uint32(len(data)))
	o = append(o, data...)
	h := hex.EncodeToString(o)
	return []byte(`{\rtf1\ansi Hello {\object\objemb` + before + `{\*\objdata ` + h[:20] + inside + h[20:] + `}} world\par}`)
}

// program is the least that counts as a Windows program.
func program() []byte {
	b := make([]byte, 0x100)
	copy(b, "MZ")
	b[0x3c] = 0x80
	copy(b[0x80:], "PE\x00\x00")
	return b
}
