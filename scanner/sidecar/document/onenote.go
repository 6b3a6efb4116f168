package document

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// oneMagic starts a section of OneNote, oneFile an embedded file in it
// (MS-ONESTORE §2.6.13).
var (
	oneMagic = []byte("\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3")
	oneFile  = []byte("\xe7\x16\xe3\xbd\x65\x26\x11\x45\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac")
)

// oneNote takes out the files of a notebook. They are found by their mark, and
// not by the lists of the format, which nobody needs to get them.
func (r *reader) oneNote() error {
	names := oneNames(r.file.Data)
	rest, n := r.file.Data, 0
	for {
		if err := r.late(); err != nil {
			return err
		}
		i := bytes.Index(rest, oneFile)
		if i < 0 || len(rest)-i < 36 {
			break
		}
		size := binary.LittleEndian.Uint64(rest[i+16:])
		from := i + 36
		data := rest[from:min(uint64(len(rest)), uint64(from)+min(size, uint64(len(rest))))]
		rest = rest[from+len(data):]
		name := ""
		if n < len(names) {
			name = names[n]
		}
		if isPicture(data) {
			name = ""
		} else {
			n++
			r.sign("OneNote.EmbeddedFile", 2, "a file is embedded in the notebook", "name", name)
		}
		if err := r.took(len(data)); err != nil {
			return err
		}
		if err := r.embed(name, "", data); err != nil {
			return err
		}
	}
	return nil
}

func isPicture(b []byte) bool {
	for _, m := range []string{"\x89PNG", "\xff\xd8\xff", "GIF8", "BM", "\x01\x00\x00\x00", "RIFF"} {
		if bytes.HasPrefix(b, []byte(m)) {
			return true
		}
	}
	return false
}

// oneNames finds names of files in the notebook's UTF-16: the property of an
// embedded file's name holds one. Which belongs to which file is a guess, that
// costs no more than a wrong name in a report.
func oneNames(b []byte) (names []string) {
	for n := 0; n < 100; {
		i := bytes.Index(b, []byte(".\x00"))
		if i < 0 {
			return names
		}
		from, to := i, i+2
		for from >= 2 && nameUnit(b[from-2:from]) && i-from < 400 {
			from -= 2
		}
		for to+2 <= len(b) && nameUnit(b[to:to+2]) && to-i < 40 {
			to += 2
		}
		name := strings.TrimSpace(utf16String(b[from:to]))
		if ext := name[strings.LastIndexByte(name, '.')+1:]; i > from && len(ext) >= 2 && len(ext) <= 5 && !strings.ContainsAny(name, `/\<>:`) && isWord(ext) {
			names = append(names, name)
			n++
		}
		b = b[to:]
	}
	return names
}

func nameUnit(u []byte) bool { return u[1] == 0 && u[0] >= ' ' && u[0] < 0x7f }

func isWord(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
