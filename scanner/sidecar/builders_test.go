package sidecar

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

func uuencode(name, data string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "begin 644 %s\n", name)
	for at := 0; at < len(data); at += 45 {
		line := []byte(data[at:min(at+45, len(data))])
		b.WriteByte(byte(len(line)) + 32)
		for len(line)%3 != 0 {
			line = append(line, 0)
		}
		for i := 0; i < len(line); i += 3 {
			n := uint(line[i])<<16 | uint(line[i+1])<<8 | uint(line[i+2])
			for s := 18; s >= 0; s -= 6 {
				b.WriteByte(byte(n>>s&63) + 32)
			}
		}
		b.WriteByte('\n')
	}
	return b.String() + "`\nend\n"
}

func yencode(data string) string {
	var b []byte
	for _, c := range []byte(data) {
		if c += 42; c == 0 || c == '\n' || c == '\r' || c == '=' {
			b = append(b, '=')
			c += 64
		}
		b = append(b, c)
	}
	return string(b)
}

func utf16le(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// zipText is a zip archive of one file.
func zipText(p string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, _ := z.Create("a.txt")
	io.WriteString(w, p+strings.Repeat(" padding", 50))
	z.Close()
	return b.String()
}

// hiddenZip is an archive with two files, whose directory has only the harmless one.
func hiddenZip(p string) []byte {
	first, second := zipText(p), zipText("harmless")
	at := strings.Index(first, zipDirectory)
	return append([]byte(first[:at]), second...)
}

func zipBy(method uint16, p string, pack func(io.Writer) io.WriteCloser) []byte {
	var b, packed bytes.Buffer
	data := []byte(p + strings.Repeat(" padding", 50))
	pw := pack(&packed)
	pw.Write(data)
	pw.Close()
	z := zip.NewWriter(&b)
	w, _ := z.CreateRaw(&zip.FileHeader{Name: "a.txt", Method: method, CRC32: crc32.ChecksumIEEE(data), CompressedSize64: uint64(packed.Len()), UncompressedSize64: uint64(len(data))})
	w.Write(packed.Bytes())
	z.Close()
	return b.Bytes()
}

func gzipped(p string) []byte { return gzippedAs("", p) }

func gzippedAs(name, p string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name = name
	io.WriteString(w, p)
	w.Close()
	return b.Bytes()
}

func tarred(p string) []byte { return tarOf(tar.TypeReg, p) }

func tarOf(kind byte, p string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Typeflag: kind, Name: "a.zip", Size: int64(len(p)), Mode: 0o600})
	io.WriteString(w, p)
	w.Close()
	return b.Bytes()
}

func tnef(name, data string, props ...string) []byte {
	b := []byte(tnefMagic + "\x01\x00")
	attr := func(level byte, id uint16, value string) {
		b = append(b, level)
		b = binary.LittleEndian.AppendUint16(b, id)
		b = append(b, 6, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
		b = append(b, value...)
		sum := uint16(0)
		for _, c := range []byte(value) {
			sum += uint16(c)
		}
		b = binary.LittleEndian.AppendUint16(b, sum)
	}
	attr(2, tnefRendData, strings.Repeat("\x00", 14))
	attr(2, tnefTitle, name+"\x00")
	if data != "" {
		attr(2, tnefData, data)
	}
	for _, p := range props {
		attr(2, tnefAttachment, p)
	}
	return b
}

// mapiProp is a list of one property, behind one of another kind.
func mapiProp(id, kind uint16, value string) string {
	le := binary.LittleEndian
	b := []byte("\x02\x00\x00\x00\x03\x00\x20\x0e\x01\x00\x00\x00")
	b = le.AppendUint16(le.AppendUint16(b, kind), id)
	b = le.AppendUint32(le.AppendUint32(b, 1), uint32(len(value)))
	return string(b) + value
}

// rarOf is an archive of RAR 4 with one file, which is stored.
func rarOf(name, data string) string {
	le := binary.LittleEndian
	block := func(b []byte) string {
		le.PutUint16(b[5:], uint16(len(b)))
		le.PutUint16(b, uint16(crc32.ChecksumIEEE(b[2:])))
		return string(b)
	}
	file := make([]byte, 32, 32+len(name))
	file[2], file[4] = 0x74, 0x80
	le.PutUint32(file[7:], uint32(len(data)))
	le.PutUint32(file[11:], uint32(len(data)))
	file[15] = 2
	le.PutUint32(file[16:], crc32.ChecksumIEEE([]byte(data)))
	le.PutUint32(file[20:], 0x21<<16)
	file[24], file[25] = 20, 0x30
	le.PutUint16(file[26:], uint16(len(name)))
	return rarMagic + "\x00" + block([]byte{0, 0, 0x73, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}) + block(append(file, name...)) + data + block([]byte{0, 0, 0x7b, 0, 0x40, 0, 0})
}

// lyingZip has a file whose header says one byte, and whose directory says that the
// next file belongs to it.
func lyingZip(p string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, _ := z.CreateRaw(&zip.FileHeader{Name: "b.txt", Method: zip.Store, CRC32: crc32.ChecksumIEEE([]byte("x")), CompressedSize64: 1, UncompressedSize64: 1})
	io.WriteString(w, "x")
	z.Close()
	le := binary.LittleEndian
	first, second := b.Bytes(), []byte(zipText(p))
	at := bytes.Index(first, []byte(zipDirectory))
	second = second[:bytes.Index(second, []byte(zipDirectory))]
	directory := bytes.Clone(first[at:])
	content := append([]byte("x"), second...)
	le.PutUint32(directory[16:], crc32.ChecksumIEEE(content))
	le.PutUint32(directory[20:], uint32(len(content)))
	le.PutUint32(directory[24:], uint32(len(content)))
	le.PutUint32(directory[len(directory)-6:], uint32(at+len(second)))
	return slices.Concat(first[:at], second, directory)
}

// namedOdd is a zip archive of a file that has a second name in its extra field.
func namedOdd(name, other string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: name}
	if other != "" {
		h.Extra = append(binary.LittleEndian.AppendUint16([]byte{0x75, 0x70}, uint16(5+len(other))), 1, 0, 0, 0, 0)
		h.Extra = append(h.Extra, other...)
	}
	w, _ := z.CreateHeader(h)
	io.WriteString(w, "hello")
	z.Close()
	return b.Bytes()
}

func ber(tag byte, content []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{tag, 0x84}, uint32(len(content))), content...)
}

func berOpen(tag byte, content []byte) []byte {
	return append(append([]byte{tag, 0x80}, content...), 0, 0)
}

// signed wraps a mail in CMS, with lengths or, as Outlook does, in pieces without.
func signed(mail string, open bool) []byte {
	oidData := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01}
	wrap, octets := ber, ber(4, []byte(mail))
	if open {
		wrap, octets = berOpen, berOpen(0x24, append(ber(4, []byte(mail[:10])), ber(4, []byte(mail[10:]))...))
	}
	info := wrap(0x30, append(ber(6, oidData), wrap(0xa0, octets)...))
	body := wrap(0x30, slices.Concat([]byte{2, 1, 1}, ber(0x31, nil), info, ber(0x31, nil)))
	return wrap(0x30, append([]byte("\x06\x09"+string(oidSignedData)), wrap(0xa0, body)...))
}

// cabinet holds two files of one name in two blocks of MSZIP.
func cabinet(p string) []byte {
	le := binary.LittleEndian
	first := strings.Repeat("harmless", 8<<10/8)
	var blocks []byte
	for i, part := range []string{first, p} {
		var dict []byte
		if i > 0 {
			dict = []byte(first)
		}
		packed := append([]byte("CK"), deflated(part, dict)...)
		blocks = le.AppendUint32(blocks, 0)
		blocks = le.AppendUint16(blocks, uint16(len(packed)))
		blocks = le.AppendUint16(blocks, uint16(len(part)))
		blocks = append(blocks, packed...)
	}
	var files []byte
	for _, f := range [][2]int{{len(first), 0}, {len(p), len(first)}} {
		files = le.AppendUint32(files, uint32(f[0]))
		files = le.AppendUint32(files, uint32(f[1]))
		files = append(files, 0, 0, 0, 0, 0, 0, 0, 0)
		files = append(files, "a.dat\x00"...)
	}
	head := append([]byte("MSCF"), make([]byte, 32)...)
	le.PutUint32(head[8:], uint32(36+8+len(files)+len(blocks)))
	le.PutUint32(head[16:], 44)
	head[24], head[25] = 3, 1
	le.PutUint16(head[26:], 1)
	le.PutUint16(head[28:], 2)
	folder := le.AppendUint32(nil, uint32(44+len(files)))
	folder = le.AppendUint16(folder, 2)
	folder = le.AppendUint16(folder, cabMSZIP)
	return slices.Concat(head, folder, files, blocks)
}

// isoOf is a disk image with one file in its only folder.
func isoOf(name, data string) []byte {
	record := func(name string, sector, size uint32, flags byte) []byte {
		r := make([]byte, (33+len(name)+1)&^1)
		r[0] = byte(len(r))
		binary.LittleEndian.PutUint32(r[2:], sector)
		binary.LittleEndian.PutUint32(r[10:], size)
		r[25], r[32] = flags, byte(len(name))
		copy(r[33:], name)
		return r
	}
	b := make([]byte, 19*isoSector)
	copy(b[16*isoSector:], "\x01CD001\x01")
	copy(b[16*isoSector+156:], record("\x00", 18, isoSector, 2))
	copy(b[17*isoSector:], "\xffCD001\x01")
	copy(b[18*isoSector:], slices.Concat(record("\x00", 18, isoSector, 2), record("\x01", 18, isoSector, 2), record(name, 19, uint32(len(data)), 0)))
	return append(b, data...)
}

// jolietOf is a disk image with two trees. The first has only a harmless file,
// unless both have the same two; the second, Joliet, has both.
func jolietOf(data string, same bool) []byte {
	harmless := make([]byte, isoSector)
	record := func(name string, sector, size uint32, flags byte) []byte {
		r := make([]byte, (33+len(name)+1)&^1)
		r[0], r[25], r[32] = byte(len(r)), flags, byte(len(name))
		binary.LittleEndian.PutUint32(r[2:], sector)
		binary.LittleEndian.PutUint32(r[10:], size)
		copy(r[33:], name)
		return r
	}
	wide := func(s string) string { return "\x00" + strings.Join(strings.Split(s, ""), "\x00") }
	b := make([]byte, 21*isoSector)
	copy(b[16*isoSector:], "\x01CD001\x01")
	copy(b[16*isoSector+156:], record("\x00", 19, isoSector, 2))
	copy(b[17*isoSector:], "\x02CD001\x01")
	copy(b[17*isoSector+88:], "%/E")
	copy(b[17*isoSector+156:], record("\x00", 20, isoSector, 2))
	copy(b[18*isoSector:], "\xffCD001\x01")
	first := slices.Concat(record("\x00", 19, isoSector, 2), record("A.TXT;1", 21, 100, 0))
	if same {
		first = append(first, record("B.TXT;1", 22, uint32(len(data)), 0)...)
	}
	copy(b[19*isoSector:], first)
	copy(b[20*isoSector:], slices.Concat(record("\x00", 20, isoSector, 2), record(wide("a.txt"), 21, 100, 0), record(wide("b.txt"), 22, uint32(len(data)), 0)))
	return append(append(b, harmless...), data...)
}

func deflated(data string, dict []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriterDict(&b, flate.BestCompression, dict)
	io.WriteString(w, data)
	w.Close()
	return b.Bytes()
}
