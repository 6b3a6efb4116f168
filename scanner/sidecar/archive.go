package sidecar

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

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

// openers are what opens a container of the types that the bytes say; none: it is
// no container. Some are read from their end or their middle, so that a file can be
// several at once, of which each program sees its own.
func openers(kind, name string, data []byte) (all []func(*container) error) {
	if hasAt(data, 0, zipLocal) || hasAt(data, 0, "PK\x05\x06") || kind == "application/zip" || endsAsZip(name, data) {
		all = append(all, openZip)
	}
	if hasAt(data, 0x8001, "CD001") || hasAt(data, 0x8001, "BEA01") {
		all = append(all, openISO)
	}
	if hasAt(data, len(data)-512, "conectix") || hasAt(data, len(data)-512, "koly\x00\x00\x00\x04") {
		all = append(all, openNone) // disks that Windows (VHD) and macOS (DMG) show as folders
	}
	if front := frontOpener(kind, name, data); front != nil {
		all = append(all, front)
	}
	if at := webArchive(name, data); at >= 0 {
		all = append(all, func(c *container) error { return c.w.rarely(func() error { return c.mail(c.data[at:]) }) })
	}
	if len(all) == 0 && isArchiveName(name) {
		all = append(all, searching(data))
	}
	return all
}

func hasAt(data []byte, at int, magic string) bool {
	return at >= 0 && len(data) >= at+len(magic) && string(data[at:at+len(magic)]) == magic
}

// frontOpener is for what is known by how it begins.
func frontOpener(kind, name string, data []byte) func(*container) error {
	has := func(at int, magic string) bool { return hasAt(data, at, magic) }
	switch {
	case has(0, sevenzipMagic):
		return open7z
	case has(0, rarMagic):
		return openRar
	case has(0, "\x1f\x8b"):
		return openStream(gzipReader, ".gz", ".tgz")
	case has(0, "BZh"):
		return openStream(bzip2Reader, ".bz2", ".tbz2")
	case has(0, "\xfd7zXZ\x00"):
		return openStream(xzReader, ".xz", ".txz")
	case has(0, "\x28\xb5\x2f\xfd"):
		return openStream(zstdReader, ".zst", ".tzst")
	case has(0, "\x04\x22\x4d\x18"):
		return openStream(lz4Reader, ".lz4", ".tlz4")
	case has(0, "MSCF"):
		return openCab
	case has(257, "ustar"), kind == "application/x-tar":
		return openTar
	case has(0, tnefMagic):
		return openTNEF
	case has(0, "\x00\x05\x16\x00"), has(0, "\x00\x05\x16\x07"):
		return openAppleSingle
	case looksMacBinary(data):
		return openMacBinary
	case looksCMS(data):
		return openCMS
	case has(7, "**ACE**"), has(2, "-lh") && has(6, "-"), has(2, "-lz") && has(6, "-"), has(0, "MSWIM\x00\x00\x00"), has(0, "vhdxfile"),
		has(0, "070701"), has(0, "070702"), has(0, "070707"), has(0, "!<arch>\n"), has(0, "\xed\xab\xee\xdb"), has(0, "xar!"), has(0, "LZIP"), has(0, "ISc("), has(0, "ALZ\x01"), has(0, "EGGA"), has(0, "!BDN"):
		return openNone // cpio, packages of Debian, Red Hat and macOS, InstallShield, ALZip, a mailbox of Outlook
	case isMailName(name):
		return openMail
	case looksBinHex(name, data):
		return openBinHex
	}
	return nil
}

const (
	sevenzipMagic = "7z\xbc\xaf\x27\x1c"
	rarMagic      = "Rar!\x1a\x07"
	// searchMost is how far programs look for an archive that other bytes stand
	// before, as in one that unpacks itself. It is as far as our readers do.
	searchMost = 1 << 20
)

var (
	archiveName = regexp.MustCompile(`(?i)\.(?:zip|zipx|rar|7z|cab|gz|tgz|bz2|tbz2?|xz|txz|zst|tzst|lz4|lzma|lz|z|tar|iso|img|udf|dmg|vhdx?|wim|esd|swm|ace|arj|arc|zoo|lzh|lha|alz|egg|cpio|deb|rpm|xar|[rz]\d\d|(?:zip|rar|7z)\.\d{3})$`)
	webDocument = regexp.MustCompile(`(?i)\.(?:do[ct][xm]?|rtf|xl[st][xm]?|pp[st][xm]?|wps|wri)$`)
)

// isArchiveName says whether people have a program that opens a file of this name
// as an archive, whatever it begins with.
func isArchiveName(name string) bool { return archiveName.MatchString(name) }

// searching is for a file that has the name of an archive and begins as none.
func searching(data []byte) func(*container) error {
	front := data[:min(len(data), searchMost)]
	switch {
	case bytes.Contains(front, []byte(rarMagic)):
		return openRar
	case bytes.Contains(front, []byte(sevenzipMagic)):
		return open7z
	}
	return openNone
}

// webArchive is where the head of a web archive (MHTML) begins in a file that Word
// opens as one whatever stands before, a PDF file for instance; -1: it has none.
func webArchive(name string, data []byte) int {
	if !webDocument.MatchString(name) || hasAt(data, 0, zipLocal) || hasAt(data, 0, "\xd0\xcf\x11\xe0") {
		return -1
	}
	const field = "MIME-Version:"
	block, at := 0, 0 // where the lines before the field begin, and the line itself
	for line := range bytes.Lines(data[:min(len(data), searchMost)]) {
		if len(line) > len(field) && bytes.EqualFold(line[:len(field)], []byte(field)) {
			return block
		}
		if at += len(line); len(bytes.TrimSpace(line)) == 0 {
			block = at
		}
	}
	return -1
}

// open looks into containers, and returns one that has opened wholly and is nothing
// else. What is none is nothing to do.
func (w *walker) open(part policy.Part, data []byte, depth, archives int) (*container, error) {
	if len(data) < 4 {
		return nil, nil
	}
	all := openers(part.TrueType, part.Name, data)
	for i, fn := range all {
		p := part.Path
		if i > 0 {
			p = fmt.Sprintf("%s.x%d", p, i)
		}
		c, err := w.openAs(fn, p, part, data, depth, archives)
		if err != nil || len(all) == 1 {
			return c, err
		}
	}
	return nil, nil
}

// openAs looks into a container of one type.
func (w *walker) openAs(fn func(*container) error, p string, part policy.Part, data []byte, depth, archives int) (*container, error) {
	if archives >= w.lim.ArchiveDepth {
		return nil, errArchiveDepth
	}
	name := part.Name
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
		w.locked(part.Path, name, "an archive in it is encrypted: "+name)
	default:
		why := "an archive in it does not open"
		if name != "" {
			why += ": " + name
		}
		w.locked(part.Path, name, why)
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
		c.w.total += limit // It was unpacked, even if for nothing.
		if c.w.total >= c.w.lim.TotalBytes {
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
	shown, _, cut := strings.Cut(name, "\x00")
	if cut { // Programs in C see what is before it, others all.
		c.w.odd("an archive with a NUL in a name")
		if err := c.named(name); err != nil {
			return err
		}
	}
	err := c.w.piece(sub, cleanName(strings.TrimRight(shown, `/\`)), "", "", data, c.depth, c.archives+1)
	if err != nil && !isLimit(err) {
		return fmt.Errorf("%w: %w", errMatch, err)
	}
	return err
}

// named matches the rules on one more name of a file that was looked at.
func (c *container) named(name string) error {
	name = cleanName(name)
	if err := c.w.run(nil, Vars{Path: c.path, Name: name, Ext: extension(name), Archived: true, Depth: c.archives + 1}); err != nil {
		return fmt.Errorf("%w: %w", errMatch, err)
	}
	return nil
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
