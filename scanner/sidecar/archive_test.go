package sidecar

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mailward/policy"
)

// goInflate keeps the contract of Worker.Inflate with Go's own reader.
func goInflate(dst, src []byte) bool {
	from := bytes.NewReader(src)
	got, err := io.ReadAll(flate.NewReader(from))
	return err == nil && from.Len() == 0 && len(got) == copy(dst, got) && len(got) == len(dst)
}

// rawZip makes an archive whose directory says size and sum of a file that
// unpacks to data, followed by extra packed bytes.
func rawZip(t *testing.T, data, extra []byte, size uint64, sum uint32) []byte {
	t.Helper()
	var packed, b bytes.Buffer
	f, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	packed.Write(extra)
	z := zip.NewWriter(&b)
	w, err := z.CreateRaw(&zip.FileHeader{Name: "f.bin", Method: zip.Deflate, CompressedSize64: uint64(packed.Len()), UncompressedSize64: size, CRC32: sum})
	if err == nil {
		_, err = w.Write(packed.Bytes())
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestInflate: the quick way is taken for what is as the archive says, gives
// what the reader gives, and leaves everything else to it.
func TestInflate(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat(junk(1, 9<<10), 3)
	size, sum := uint64(len(data)), crc32.ChecksumIEEE(data)
	bomb := make([]byte, 4<<20)
	for name, tt := range map[string]struct {
		archive  []byte
		unpacked bool // whether the quick way unpacks it; a checksum is looked at later
	}{
		"as it says":        {rawZip(t, data, nil, size, sum), true},
		"a writer's":        {zipped(t, data, junk(2, 100), nil), true},
		"less than it says": {rawZip(t, data, nil, size+1, sum), false},
		"more than it says": {rawZip(t, data, nil, size-1, sum), false},
		"wrong checksum":    {rawZip(t, data, nil, size, sum^1), true},
		"bytes behind it":   {rawZip(t, data, []byte("behind"), size, sum), false},
		"size of 0":         {rawZip(t, data, nil, 0, sum), false},
		"more than can be":  {rawZip(t, data[:1000], nil, 2<<20, sum), false},
		"size beyond all":   {rawZip(t, data, nil, 1<<62, sum), false},
		"over the ratio":    {rawZip(t, bomb, nil, uint64(len(bomb)), crc32.ChecksumIEEE(bomb)), false},
	} {
		lim := DefaultLimits()
		lim.Ratio = 10
		mail := attached("a.zip", tt.archive)
		want, err := (&Worker{Matcher: &countingMatcher{}, Limits: lim}).scan(mail)
		if err != nil {
			t.Fatal(err)
		}
		unpacked := false
		w := &Worker{Matcher: &countingMatcher{}, Limits: lim, Inflate: func(dst, src []byte) bool {
			ok := goInflate(dst, src)
			unpacked = unpacked || ok
			return ok
		}}
		got, err := w.scan(mail)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, and without the quick way %+v", name, got, want)
		}
		if unpacked != tt.unpacked {
			t.Errorf("%s: unpacked in one step %v, want %v", name, unpacked, tt.unpacked)
		}
	}
}

// A stored file is looked at where it lies. Where anything is wrong with it, it is
// looked at all the same, and the archive does not open.
func TestZip_Stored(t *testing.T) {
	t.Parallel()
	data := junk(7, 1000)
	stored := func(name string, flags uint16, sum, behind uint32, size uint64) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.CreateRaw(&zip.FileHeader{Name: name, Flags: flags, CRC32: sum, CompressedSize64: uint64(len(data)), UncompressedSize64: size})
		if err == nil {
			_, err = w.Write(data)
		}
		if err == nil {
			err = z.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		if folder, ok := strings.CutSuffix(name, "-"); ok { // The writer makes none with bytes.
			b = *bytes.NewBuffer(bytes.ReplaceAll(b.Bytes(), []byte(name), []byte(folder+"/")))
		}
		// The writer puts the directory's checksum behind the bytes.
		if at := bytes.Index(b.Bytes(), []byte(zipDescriptor)); at >= 0 {
			binary.LittleEndian.PutUint32(b.Bytes()[at+4:], behind)
		}
		return b.Bytes()
	}
	size, sum := uint64(len(data)), crc32.ChecksumIEEE(data)
	for name, tt := range map[string]struct {
		archive      []byte
		seen, locked bool
	}{
		"as it says":                 {stored("f.bin", 0, sum, 0, size), true, false},
		"checksum behind it":         {stored("f.bin", 8, sum, sum, size), true, false},
		"another checksum behind it": {stored("f.bin", 8, sum, sum^1, size), true, true},
		"wrong checksum":             {stored("f.bin", 0, sum^1, 0, size), true, true},
		"no checksum":                {stored("f.bin", 0, 0, 0, size), true, false},
		"less than it says":          {stored("f.bin", 0, sum, 0, size+1), true, true},
		"a folder with bytes":        {stored("folder-", 0, sum, 0, size), false, true},
	} {
		m := &countingMatcher{}
		r, err := (&Worker{Matcher: m, Limits: DefaultLimits()}).scan(attached("a.zip", tt.archive))
		if err != nil {
			t.Fatal(err)
		}
		whole := fmt.Sprintf("%x", sha256.Sum256(data))
		seen := slices.ContainsFunc(r.Parts, func(p policy.Part) bool { return p.SHA256 == whole })
		locked := slices.ContainsFunc(r.Findings, func(f policy.Finding) bool { return f.Name == "Mailward.Locked" })
		if seen != tt.seen || locked != tt.locked {
			t.Errorf("%s: seen %v, locked %v: %+v", name, seen, locked, r.Findings)
		}
	}
}

// What lies in an archive is no part of the mail that another engine could be given
// on its own, also where the archive stands in the mail as it is.
func TestZip_StoredMailIsNotCut(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateHeader(&zip.FileHeader{Name: "a.eml", Method: zip.Store})
	if err == nil {
		_, err = w.Write(attached("b.bin", junk(8, 2*cutMin)))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	mail := append([]byte("From: a@b.example\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nContent-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: binary\r\n\r\n"), b.Bytes()...)
	r, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(mail)
	if err != nil || len(r.Cuts) > 0 {
		t.Errorf("cuts %+v, error %v", r.Cuts, err)
	}
	if !slices.ContainsFunc(r.Parts, func(p policy.Part) bool { return p.Name == "b.bin" }) {
		t.Errorf("the mail in the archive was not read: %+v", r.Parts)
	}
}

// An ordinary archive has entries for its folders, which have no bytes.
func TestZip_Folders(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range []string{"a/", "a/b/", "a/empty.txt", "a/b/note.txt"} {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		if name == "a/b/" {
			h.Method = zip.Store
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if name == "a/b/note.txt" {
			io.WriteString(w, "hello")
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(attached("a.zip", b.Bytes()))
	if err != nil || len(r.Findings) > 0 {
		t.Errorf("%+v, error %v", r.Findings, err)
	}
}

// A workbook that a program has written has sheets of 100 MB. It is read whole as
// an archive; of the sheets' text, as much as is judged.
func TestWorkbook_BigSheets(t *testing.T) {
	t.Parallel()
	book := func(sheet, names int) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		put := func(name, start, row string, size int) {
			w, err := z.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, start)
			io.WriteString(w, strings.Repeat(row, size/len(row)))
		}
		put("[Content_Types].xml", "<Types/>", " ", 1)
		var row strings.Builder
		for i := range 1000 { // so that the archive is no bomb
			fmt.Fprintf(&row, "<row r=\"%d\"><c><v>%d</v></c></row>", i, i*i*7919%100_003)
		}
		put("xl/worksheets/sheet1.xml", "<worksheet><sheetData>", row.String(), sheet)
		put("xl/other.xml", "<x>", row.String(), names)
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	scan := func(data []byte) []policy.Finding {
		r, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(attached("book.xlsx", data))
		if err != nil {
			t.Fatal(err)
		}
		return r.Findings
	}
	if f := scan(book(70<<20, 1)); len(f) > 0 {
		t.Errorf("a big sheet: %+v", f)
	}
	// What is kept of a document has a limit, and who is over it is unscannable.
	if f := scan(book(1, 70<<20)); len(f) != 1 || f[0].Class != policy.Unscannable {
		t.Errorf("too much besides: %+v", f)
	}
}

// What people can open and we cannot is never let through as if it were nothing.
func TestArchives_ThatWeCannotOpen(t *testing.T) {
	t.Parallel()
	disk := func(footer string) string {
		return strings.Repeat("\x00", 4096) + footer + strings.Repeat("\x00", 512-len(footer))
	}
	for name, data := range map[string]string{"a.vhd": disk("conectix"), "a.dmg": disk("koly\x00\x00\x00\x04"), "a.vhdx": "vhdxfile" + disk(""), "a.wim": "MSWIM\x00\x00\x00" + disk(""), "a.cpio": "070701" + disk(""),
		"a.lzh": "\x20\x00-lh5-" + disk(""), "a.bin": disk("conectix")} {
		r, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(attached(name, []byte(data)))
		if err != nil || len(r.Findings) != 1 || r.Findings[0].Class != policy.Unscannable {
			t.Errorf("%s: %+v, error %v", name, r.Findings, err)
		}
	}
	if r, err := (&Worker{Matcher: noMatcher{}, Limits: DefaultLimits()}).scan(attached("a.bin", []byte(disk("conectiX")))); err != nil || len(r.Findings) > 0 {
		t.Errorf("a file of zeros: %+v, error %v", r.Findings, err)
	}
}
