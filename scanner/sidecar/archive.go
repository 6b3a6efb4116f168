package sidecar

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/bodgit/sevenzip"
	"github.com/klauspost/compress/flate"
	"github.com/nwaples/rardecode/v2"
	"github.com/ulikunitz/xz"

	"mailward/policy"
	"mailward/scanner/sidecar/document"
)

// containerHead is how much of a zip archive itself is matched when every file
// in it has been: what is left are compressed bytes, which no rule can read.
const containerHead = 256 << 10

// containerSlack is what a zip archive may hold beside its files (headers and
// the directory) before it is matched as a whole: something may hide there.
const containerSlack = 64 << 10

// matched is how much of a container has to be matched itself, once it has been
// opened: all of it, unless nearly all of its bytes are files that were looked at.
func (c *container) matched() []byte {
	if c == nil || len(c.data) <= containerHead {
		return nil
	}
	// Files may overlap, so that their sizes alone would prove nothing.
	slices.SortFunc(c.files, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	var covered, at int64
	for _, f := range c.files {
		if f.end > at {
			covered += f.end - max(f.start, at)
			at = f.end
		}
	}
	if covered+containerSlack < int64(len(c.data)) {
		return nil
	}
	return c.data[:containerHead]
}

// span is where a file lies in its archive.
type span struct{ start, end int64 }

// open looks into containers, and returns one that has opened wholly. What is
// none is nothing to do.
func (w *walker) open(part policy.Part, data []byte, depth, archives int) (*container, error) {
	p, name, kind := part.Path, part.Name, part.TrueType
	if len(data) < 4 {
		return nil, nil
	}
	var fn func(c *container) error
	switch {
	case bytes.HasPrefix(data, []byte("PK\x03\x04")), bytes.HasPrefix(data, []byte("PK\x05\x06")), kind == "application/zip":
		fn = openZip
	case bytes.HasPrefix(data, []byte("7z\xbc\xaf\x27\x1c")):
		fn = open7z
	case bytes.HasPrefix(data, []byte("Rar!\x1a\x07")):
		fn = openRar
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		fn = openStream(func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }, ".gz", ".tgz")
	case bytes.HasPrefix(data, []byte("BZh")):
		fn = openStream(func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }, ".bz2", ".tbz2")
	case bytes.HasPrefix(data, []byte("\xfd7zXZ\x00")):
		fn = openStream(func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) }, ".xz", ".txz")
	case len(data) > 262 && string(data[257:262]) == "ustar":
		fn = openTar
	default:
		return nil, nil
	}
	if archives >= w.lim.ArchiveDepth {
		return nil, errArchiveDepth
	}
	c := &container{w: w, path: p, name: name, data: data, depth: depth, archives: archives}
	err := guard(func() error { return fn(c) })
	if derr := w.assembled(part, c.document, len(data), depth, archives); derr != nil && err == nil {
		err = derr
	}
	switch {
	case err == nil:
		return c, nil
	case isLimit(err) || errors.Is(err, errMatch):
		return nil, err
	case errors.Is(err, errPassword):
		w.locked(p, name, "an archive in it is encrypted: "+name)
	default:
		w.locked(p, name, "an archive in it does not open: "+name)
	}
	return nil, nil
}

var (
	errPassword = errors.New("archive is encrypted")
	errMatch    = errors.New("match inside of archive")
	errPanic    = errors.New("archive reader panicked")
)

// guard turns a panic of an archive library into an error: hostile files make
// some of them index out of range.
func guard(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
	}()
	return fn()
}

// container is an archive that is being read.
type container struct {
	w               *walker
	path, name      string
	data            []byte
	depth, archives int
	n               int
	files           []span // of a zip archive, those that were looked at
	document        *document.Package
}

// growMost bounds the memory that is set aside for what an archive promises.
const growMost = 8 << 20

// file unpacks one file and looks at it. packed is its size in the archive, size
// what the archive says that it unpacks to; 0 where that is not known.
func (c *container) file(name string, packed, size int64, r io.Reader) error {
	limit, err := c.next(packed)
	if err != nil {
		return err
	}
	return c.read(name, size, limit, r)
}

// read unpacks a file of at most limit bytes from r, and looks at it.
func (c *container) read(name string, size, limit int64, r io.Reader) error {
	var b bytes.Buffer
	if size > 0 {
		b.Grow(int(min(size, limit, growMost)) + bytes.MinRead)
	}
	lr := &timedReader{r: io.LimitReader(r, limit+1), w: c.w}
	_, err := b.ReadFrom(lr)
	if int64(b.Len()) > limit {
		if limit == c.w.lim.TotalBytes-c.w.total {
			return errTotalLimit
		}
		return errRatioLimit
	}
	if errors.Is(err, errTimeLimit) {
		return err
	}
	if perr := c.unpacked(name, b.Bytes()); perr != nil {
		return perr
	}
	return err // What came out before the fault was looked at.
}

// next counts a file, and says how many bytes may come out of it.
func (c *container) next(packed int64) (limit int64, err error) {
	if c.w.files++; c.w.files > c.w.lim.Files {
		return 0, errFilesLimit
	}
	c.n++
	if packed <= 0 {
		packed = int64(len(c.data))
	}
	return min(c.w.lim.TotalBytes-c.w.total, max(packed*c.w.lim.Ratio, 1<<20)), nil
}

// unpacked looks at what came out of a file.
func (c *container) unpacked(name string, data []byte) error {
	c.w.total += int64(len(data))
	c.document.Add(name, data)
	sub := fmt.Sprintf("%s.a%d", c.path, c.n)
	err := c.w.piece(sub, path.Base(strings.ReplaceAll(name, `\`, "/")), "", "", data, c.depth, c.archives+1)
	if err != nil && !isLimit(err) {
		return fmt.Errorf("%w: %w", errMatch, err)
	}
	return err
}

// timedReader ends a reading that takes too long.
type timedReader struct {
	r io.Reader
	w *walker
}

func (t *timedReader) Read(p []byte) (int, error) {
	if err := t.w.late(); err != nil {
		return 0, err
	}
	return t.r.Read(p)
}

func openZip(c *container) error {
	zr, err := zip.NewReader(bytes.NewReader(c.data), int64(len(c.data)))
	if err != nil {
		return err
	}
	if len(zr.File) > c.w.lim.Files {
		return errFilesLimit
	}
	var names []string
	for _, f := range zr.File {
		names = append(names, f.Name)
	}
	c.document = document.NewPackage(names)
	zr.RegisterDecompressor(zip.Deflate, flate.NewReader) // twice as fast as the standard library's
	var locked error                                      // of entries that do not open; the others are looked at all the same
	for _, f := range zr.File {
		if f.FileInfo().IsDir() {
			continue
		}
		if f.Flags&1 != 0 {
			// Names can be read without the password.
			if err := c.w.run(nil, Vars{Path: c.path, Name: f.Name, Ext: strings.ToLower(path.Ext(f.Name)), Archived: true, Depth: c.archives + 1}); err != nil {
				return fmt.Errorf("%w: %w", errMatch, err)
			}
			locked = errPassword
			continue
		}
		err := c.zipFile(f)
		if isLimit(err) || errors.Is(err, errMatch) {
			return err
		}
		locked = cmp.Or(locked, err)
		if at, err := f.DataOffset(); err == nil {
			c.files = append(c.files, span{at, min(at+int64(f.CompressedSize64), int64(len(c.data)))})
		}
	}
	return locked
}

// zipFile unpacks one file of a zip archive.
func (c *container) zipFile(f *zip.File) error {
	limit, err := c.next(int64(f.CompressedSize64))
	if err != nil {
		return err
	}
	if data, ok := c.inflated(f, limit); ok {
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

// inflated unpacks a file in one step where all is as the archive says: its
// sizes, which are within the limits, and its checksum. For the others there is
// the reader, which knows how to fail.
func (c *container) inflated(f *zip.File, limit int64) ([]byte, bool) {
	size, packed := claimed(f), int64(f.CompressedSize64)
	if c.w.inflate == nil || f.Method != zip.Deflate || uint64(size) != f.UncompressedSize64 || size == 0 || size > limit || packed <= 0 || packed > int64(len(c.data)) {
		return nil, false
	}
	at, err := f.DataOffset()
	if err != nil || at < 0 || at > int64(len(c.data))-packed {
		return nil, false
	}
	data := make([]byte, size)
	if !c.w.inflate(data, c.data[at:at+packed]) || crc32.ChecksumIEEE(data) != f.CRC32 {
		return nil, false
	}
	return data, true
}

func open7z(c *container) error {
	zr, err := sevenzip.NewReader(bytes.NewReader(c.data), int64(len(c.data)))
	if err != nil {
		var re *sevenzip.ReadError
		if errors.As(err, &re) && re.Encrypted {
			return errPassword
		}
		return err
	}
	for _, f := range zr.File {
		if f.FileInfo().IsDir() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return sevenzipError(err)
		}
		err = c.file(f.Name, 0, int64(min(f.UncompressedSize, growMost)), r)
		r.Close()
		if err != nil {
			return sevenzipError(err)
		}
	}
	return nil
}

func sevenzipError(err error) error {
	var re *sevenzip.ReadError
	if errors.As(err, &re) && re.Encrypted {
		return errPassword
	}
	return err
}

func openRar(c *container) error {
	rr, err := rardecode.NewReader(bytes.NewReader(c.data))
	for {
		if err != nil {
			return rarError(err)
		}
		h, nerr := rr.Next()
		if nerr == io.EOF {
			return nil
		}
		if nerr != nil {
			return rarError(nerr)
		}
		if h.Encrypted || h.HeaderEncrypted {
			return errPassword
		}
		if h.IsDir {
			continue
		}
		err = c.file(h.Name, h.PackedSize, 0, rr)
	}
}

func rarError(err error) error {
	if errors.Is(err, rardecode.ErrArchiveEncrypted) || errors.Is(err, rardecode.ErrArchivedFileEncrypted) || errors.Is(err, rardecode.ErrBadPassword) {
		return errPassword
	}
	return err
}

func openTar(c *container) error {
	tr := tar.NewReader(bytes.NewReader(c.data))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := c.file(h.Name, h.Size, h.Size, tr); err != nil {
			return err
		}
	}
}

// openStream is for formats that hold one file.
func openStream(newReader func(io.Reader) (io.Reader, error), ext, tarExt string) func(*container) error {
	return func(c *container) error {
		r, err := newReader(bytes.NewReader(c.data))
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(c.name, ext)
		if n, ok := strings.CutSuffix(c.name, tarExt); ok {
			name = n + ".tar"
		}
		return c.file(name, 0, 0, r)
	}
}
