package sidecar

import (
	"archive/zip"
	"bytes"
	"cmp"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"mailward/scanner/sidecar/document"
)

// Methods of zip beside those that the standard library knows.
const (
	zipBzip2 = 12
	zipLZMA  = 14
	zipZstd  = 93
	zipXZ    = 95
	zipAES   = 99

	// Between these APPNOTE 4.4.5 has no methods.
	zipLastOld, zipFirstNew, zipLastNew = 20, 93, 98
)

const (
	zipLocal      = "PK\x03\x04"
	zipDirectory  = "PK\x01\x02"
	zipDescriptor = "PK\x07\x08"
)

// endsAsZip says whether data has something else in front of a zip archive, which
// is read from its end.
func endsAsZip(name string, data []byte) bool {
	tail := data[max(0, len(data)-(22+(1<<16))):]
	i := -1 // of the last one; forwards, as the search from the end is a slow one
	for at := 0; ; {
		n := bytes.Index(tail[at:], []byte("PK\x05\x06"))
		if n < 0 {
			break
		}
		i, at = at+n, at+n+1
	}
	if i < 0 || i+22 > len(tail) || !bytes.Contains(data, []byte(zipLocal)) {
		return false
	}
	if i+22+int(binary.LittleEndian.Uint16(tail[i+20:])) == len(tail) {
		return true
	}
	// Most programs skip what stands behind. So what has the name of an archive is one
	// all the same if its directory stands where it has to. Under other names it is a
	// piece of a document: presentations of old hold whole archives.
	if !isArchiveName(name) {
		return false
	}
	directory := len(data) - len(tail) + i - int(binary.LittleEndian.Uint32(tail[i+12:]))
	return hasAt(data, directory, zipDirectory)
}

// openZip looks at the files that the directory lists, and then at those that it
// does not: some programs read an archive from its start, without the directory.
func openZip(c *container) error {
	// The directory's entries take some memory each before they can be counted.
	if bytes.Count(c.data, []byte(zipDirectory)) > c.w.lim.Files {
		return errFilesLimit
	}
	zr, err := zip.NewReader(bytes.NewReader(c.data), int64(len(c.data)))
	if err != nil {
		return errors.Join(err, c.unlisted(err))
	}
	names := make([]string, len(zr.File))
	for i, f := range zr.File {
		names[i] = f.Name
	}
	c.document = document.NewPackage(names)
	c.unpackers(zr.RegisterDecompressor)
	var locked error // of entries that do not open; the others are looked at all the same
	for _, f := range zr.File {
		err := c.entry(f)
		if isLimit(err) || errors.Is(err, errMatch) {
			return err
		}
		locked = cmp.Or(locked, err)
	}
	return cmp.Or(c.unlisted(nil), locked)
}

// entry looks at one file of the directory, and at what its own header says of it.
func (c *container) entry(f *zip.File) error {
	at, err := f.DataOffset()
	if err == nil {
		file := span{at, min(at+int64(f.CompressedSize64), int64(len(c.data)))}
		local, ok := zipHeaderBefore(c.data, at, f)
		if ok && local.end > 0 { // The next file begins there for who reads without the directory.
			file.end = min(file.end, local.end)
		}
		c.files = append(c.files, file)
		if ok {
			if err := c.disagreeing(f, local); err != nil {
				return err
			}
		}
	}
	if other := unicodeName(f); other != "" && extension(cleanName(other)) != extension(cleanName(f.Name)) {
		c.w.odd("a zip archive with two names for one file")
		if err := c.named(other); err != nil {
			return err
		}
	}
	switch {
	case f.FileInfo().IsDir() && f.CompressedSize64 == 0:
		return nil
	case f.Flags&1 != 0:
		return c.lockedFile(f)
	}
	return c.zipFile(f)
}

// unicodeName is the name that programs prefer to the one in the header (APPNOTE
// 4.6.9); empty: there is none.
func unicodeName(f *zip.File) string {
	for extra := f.Extra; len(extra) >= 4; {
		id, size := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		if size > len(extra)-4 {
			break
		}
		if id == 0x7075 && size > 5 {
			return string(extra[9 : 4+size])
		}
		extra = extra[4+size:]
	}
	return ""
}

// lockedFile opens an encrypted file with a word of the mail. Its name can be
// read without.
func (c *container) lockedFile(f *zip.File) error {
	if err := c.named(f.Name); err != nil {
		return err
	}
	limit, err := c.next(int64(f.CompressedSize64))
	if err != nil {
		return err
	}
	raw, err := f.OpenRaw()
	if err != nil {
		return err
	}
	packed, err := io.ReadAll(raw)
	if err != nil {
		return err
	}
	for _, word := range c.w.passwords() {
		if c.w.guessed > passwordTime {
			break
		}
		if err := c.w.late(); err != nil {
			return err
		}
		begin := time.Now()
		plain, method, ok := zipDecrypt(f, packed, word)
		if c.w.guessed += time.Since(begin); !ok {
			continue
		}
		data, err := c.tryUnpack(plain, method, f, limit)
		if isLimit(err) {
			return err
		}
		if err != nil {
			continue
		}
		c.opened()
		return c.unpacked(f.Name, data)
	}
	return errPassword
}

// tryUnpack is a decrypted file, if the password was the right one.
func (c *container) tryUnpack(plain []byte, method uint16, f *zip.File, limit int64) ([]byte, error) {
	r, err := c.unpacker(method, bytes.NewReader(plain))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(&timedReader{r: io.LimitReader(r, limit+1), w: c.w})
	switch {
	case int64(len(data)) > limit:
		return nil, errRatioLimit
	case err != nil:
		return nil, err
	case f.CRC32 != 0 && crc32.ChecksumIEEE(data) != f.CRC32:
		return nil, zip.ErrChecksum
	}
	return data, nil
}

// localFile is what stands before a file in the archive.
type localFile struct {
	name       string
	method     uint16
	flags      uint16
	packed     int64
	start, end int64 // of its bytes; end is 0 where the header does not say
}

// zipHeaderBefore is the header whose file starts at an offset.
func zipHeaderBefore(data []byte, at int64, f *zip.File) (localFile, bool) {
	// The directory's name may have another length than the header's.
	for back := int64(30); back <= 30+(1<<16)+(1<<16) && back <= at; back++ {
		if string(data[at-back:at-back+4]) == zipLocal {
			if l, ok := readLocal(data, at-back); ok && l.start == at {
				return l, true
			}
		}
		if back > 30+int64(len(f.Name)+len(f.Extra))+1024 {
			break
		}
	}
	return localFile{}, false
}

func readLocal(data []byte, at int64) (l localFile, ok bool) {
	if at < 0 || at+30 > int64(len(data)) {
		return l, false
	}
	h := data[at:]
	n, extra := int64(binary.LittleEndian.Uint16(h[26:])), int64(binary.LittleEndian.Uint16(h[28:]))
	l.start = at + 30 + n + extra
	if l.start > int64(len(data)) {
		return l, false
	}
	l.flags, l.method = binary.LittleEndian.Uint16(h[6:]), binary.LittleEndian.Uint16(h[8:])
	l.name, l.packed = string(h[30:30+n]), int64(binary.LittleEndian.Uint32(h[18:]))
	if l.flags&8 == 0 && l.packed != 0xffffffff {
		l.end = min(l.start+l.packed, int64(len(data)))
	}
	return l, true
}

// disagreeing looks at a file again in the way its own header has it.
func (c *container) disagreeing(f *zip.File, l localFile) error {
	if l.name != f.Name {
		c.w.odd("a zip archive with two names for one file")
		if err := c.named(l.name); err != nil {
			return err
		}
	}
	sized := l.end == 0 || l.packed == int64(f.CompressedSize64)
	if l.method == f.Method && l.flags&1 == f.Flags&1 && sized {
		return nil
	}
	c.w.odd("a zip archive whose directory differs from its files")
	return c.local(l)
}

// unlisted looks at the files that the directory does not list. broken is why
// there is no directory.
func (c *container) unlisted(broken error) error {
	seen := slices.Clone(c.files)
	slices.SortFunc(seen, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	at, n := int64(0), 0
	for {
		// What lies in a file that was looked at is its own affair.
		for n < len(seen) && seen[n].end <= at {
			n++
		}
		end := int64(len(c.data))
		if n < len(seen) {
			end = max(at, min(end, seen[n].start+int64(len(zipLocal))-1))
		}
		i := bytes.Index(c.data[at:end], []byte(zipLocal))
		switch {
		case i < 0 && n == len(seen):
			return nil
		case i < 0:
			at = seen[n].end
			continue
		}
		at += int64(i)
		l, ok := readLocal(c.data, at)
		at += 4
		if !ok || listed(seen, l.start) {
			continue
		}
		if broken == nil {
			c.w.odd("a zip archive with files that its directory does not list")
		}
		if err := c.local(l); err != nil {
			return err
		}
		at = max(at, l.end)
	}
}

func listed(files []span, start int64) bool {
	_, ok := slices.BinarySearchFunc(files, start, func(s span, at int64) int { return cmp.Compare(s.start, at) })
	return ok
}

// local looks at a file as its own header has it. What does not unpack so is
// no file.
func (c *container) local(l localFile) error {
	limit, err := c.next(l.packed)
	if err != nil {
		return err
	}
	packed := c.data[l.start:]
	if l.end > 0 {
		packed = c.data[l.start:l.end]
	}
	if l.flags&1 != 0 {
		return errPassword
	}
	if l.method == zip.Store && l.end == 0 {
		return nil // Its bytes are matched with the archive.
	}
	r, err := c.unpacker(l.method, bytes.NewReader(packed))
	if errors.Is(err, zip.ErrAlgorithm) && (l.method <= zipLastOld || l.method >= zipFirstNew && l.method <= zipLastNew) {
		return err // A file that others can unpack.
	}
	if err != nil {
		return nil
	}
	defer r.Close()
	if err := c.read(l.name, 0, limit, r); isLimit(err) || errors.Is(err, errMatch) {
		return err
	}
	return nil
}

// unpackers are those that zip archives may name.
func (c *container) unpackers(register func(uint16, zip.Decompressor)) {
	for _, m := range []uint16{zip.Deflate, zipBzip2, zipLZMA, zipZstd, zipXZ} {
		register(m, func(r io.Reader) io.ReadCloser {
			u, err := c.unpacker(m, r)
			if err != nil {
				return io.NopCloser(failing{err})
			}
			return u
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (c *container) unpacker(method uint16, r io.Reader) (io.ReadCloser, error) {
	switch method {
	case zip.Store:
		return io.NopCloser(r), nil
	case zip.Deflate:
		return flate.NewReader(r), nil // twice as fast as the standard library's
	case zipBzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case zipLZMA:
		u, err := c.zipLZMA(r)
		return io.NopCloser(u), err
	case zipZstd:
		u, err := c.w.zstd(r)
		return io.NopCloser(u), err
	case zipXZ:
		u, err := xz.ReaderConfig{SingleStream: true}.NewReader(r)
		return io.NopCloser(u), err
	}
	return nil, zip.ErrAlgorithm
}

// zstd reads Zstandard, with a window of bounded size.
func (w *walker) zstd(r io.Reader) (io.Reader, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(w.lim.Dictionary)))
}

// zipLZMA makes the header of a file of its own out of the one that zip has
// (APPNOTE 5.8.8): a version, the size of the properties, the properties.
func (c *container) zipLZMA(r io.Reader) (io.Reader, error) {
	var h [9]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	if int64(binary.LittleEndian.Uint32(h[5:])) > c.w.lim.Dictionary {
		return nil, errDictionary
	}
	head := append(bytes.Clone(h[4:]), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	return lzma.NewReader(io.MultiReader(bytes.NewReader(head), r))
}

// zipFile unpacks one file of a zip archive.
func (c *container) zipFile(f *zip.File) error {
	limit, err := c.next(int64(f.CompressedSize64))
	if err != nil {
		return err
	}
	if f.UncompressedSize64 > uint64(limit) {
		return errRatioLimit // It says so itself.
	}
	if data, ok := c.whole(f, limit); ok {
		return c.unpacked(f.Name, data)
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return c.read(f.Name, claimed(f), limit, r)
}

// deflateMost is how many bytes DEFLATE makes of one at most (RFC 1951: 258 of
// two bits).
const deflateMost = 1032

// claimed is what a file says that it unpacks to, as far as that can be true. So
// an archive of many small files that claim to be large ones costs no memory.
func claimed(f *zip.File) int64 {
	return int64(min(f.UncompressedSize64, min(f.CompressedSize64, growMost)*deflateMost, growMost))
}

// whole is a file in one step where all is as the archive says: its sizes, which
// are within the limits, and its checksum. For the others there is the reader,
// which knows how to fail.
func (c *container) whole(f *zip.File, limit int64) ([]byte, bool) {
	at, err := f.DataOffset()
	packed, all := int64(f.CompressedSize64), int64(len(c.data))
	// Something stands behind the last file of an archive. So what is taken out as it
	// is ends before the mail does, and no part in it is one of the mail's own (see cut).
	if err != nil || packed <= 0 || packed >= all || at < 0 || at >= all-packed {
		return nil, false
	}
	data := c.data[at : at+packed : at+packed]
	switch size := claimed(f); {
	case uint64(size) != f.UncompressedSize64 || size > limit:
		return nil, false
	case f.Method == zip.Store && size == packed && described(f, c.data[at+packed:]):
	case f.Method == zip.Deflate && c.w.inflate != nil:
		unpacked := c.w.buffers.get(int(size))
		if !c.w.inflate(unpacked, data) {
			return nil, false
		}
		data = unpacked
	default:
		return nil, false
	}
	return data, crc32.ChecksumIEEE(data) == f.CRC32
}

// described says whether a stored file is one that the reader has no objection to
// but its checksum: no folder, and where its header left the checksum to what
// stands behind it, that is the directory's (APPNOTE 4.3.9).
func described(f *zip.File, behind []byte) bool {
	behind = bytes.TrimPrefix(behind, []byte(zipDescriptor))
	return !strings.HasSuffix(f.Name, "/") && (f.Flags&8 == 0 || len(behind) >= 12 && binary.LittleEndian.Uint32(behind) == f.CRC32)
}
