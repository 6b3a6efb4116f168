package sidecar

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/bodgit/sevenzip"
	"github.com/klauspost/compress/gzip"
	"github.com/nwaples/rardecode/v2"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// sevenzipMost is how large a dictionary of 7z may be, in bytes: its library has
// no limit, and takes what an archive says.
const sevenzipMost = 128 << 20

// bound7z replaces the readers of 7z that hold a dictionary by bounded ones. The
// library keeps them for the whole process, so once is enough.
var bound7z = sync.OnceFunc(func() {
	sevenzip.RegisterDecompressor([]byte{3, 1, 1}, func(props []byte, size uint64, in []io.ReadCloser) (io.ReadCloser, error) {
		if len(props) < 5 || len(in) != 1 {
			return nil, errors.New("7z without LZMA properties")
		}
		if binary.LittleEndian.Uint32(props[1:]) > sevenzipMost {
			return nil, errDictionary
		}
		r, err := lzma.NewReader(io.MultiReader(bytes.NewReader(binary.LittleEndian.AppendUint64(bytes.Clone(props[:5]), size)), in[0]))
		return closing{r, in[0]}, err
	})
	sevenzip.RegisterDecompressor([]byte{0x21}, func(props []byte, _ uint64, in []io.ReadCloser) (io.ReadCloser, error) {
		if len(props) < 1 || len(in) != 1 {
			return nil, errors.New("7z without LZMA2 properties")
		}
		size, err := lzma.DecodeDictCap(props[0])
		if err != nil {
			return nil, err
		}
		if size > sevenzipMost {
			return nil, errDictionary
		}
		r, err := lzma.Reader2Config{DictCap: int(size)}.NewReader2(in[0])
		return closing{r, in[0]}, err
	})
})

type closing struct {
	io.Reader
	io.Closer
}

func open7z(c *container) error {
	bound7z()
	return c.withPasswords(c.try7z)
}

func (c *container) try7z(password string) error {
	zr, err := sevenzip.NewReaderWithPassword(bytes.NewReader(c.data), int64(len(c.data)), password)
	if err != nil {
		return sevenzipError(err)
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
	if errors.As(err, &re) && re.Encrypted && !isLimit(err) {
		return errPassword
	}
	return err
}

func openRar(c *container) error { return c.withPasswords(c.tryRar) }

func (c *container) tryRar(password string) error {
	options := []rardecode.Option{rardecode.MaxDictionarySize(c.w.lim.Dictionary)}
	if password != "" {
		options = append(options, rardecode.Password(password))
	}
	rr, err := rardecode.NewReader(bytes.NewReader(c.data), options...)
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
		if (h.Encrypted || h.HeaderEncrypted) && password == "" {
			return errPassword
		}
		if h.IsDir {
			continue
		}
		err = c.file(h.Name, h.PackedSize, 0, rr)
	}
}

func rarError(err error) error {
	switch {
	case errors.Is(err, rardecode.ErrArchiveEncrypted), errors.Is(err, rardecode.ErrArchivedFileEncrypted), errors.Is(err, rardecode.ErrBadPassword):
		return errPassword
	case errors.Is(err, rardecode.ErrDictionaryTooLarge):
		return errDictionary
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
		switch h.Typeflag {
		case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeXGlobalHeader:
			continue // What is of a kind that nobody knows is unpacked as a file.
		}
		if err := c.file(h.Name, 0, min(h.Size, int64(len(c.data))), tr); err != nil {
			return err
		}
	}
}

// openStream is for formats that hold one file.
func openStream(newReader func(*walker, []byte) (io.Reader, error), ext, tarExt string) func(*container) error {
	return func(c *container) error {
		r, err := newReader(c.w, c.data)
		if err != nil {
			return err
		}
		name := c.name
		switch end := extension(name); {
		case end == tarExt:
			name = name[:len(name)-len(end)] + ".tar"
		case end == ext, isArchiveName(name): // an archive of another kind than it says
			name = name[:len(name)-len(end)]
		}
		if z, ok := r.(*gzip.Reader); ok && z.Name != "" && extension(cleanName(z.Name)) != extension(cleanName(name)) {
			if err := c.named(name); err != nil {
				return err
			}
			name = z.Name // Programs unpack to either.
		}
		return c.file(name, 0, 0, r)
	}
}

func gzipReader(_ *walker, data []byte) (io.Reader, error) {
	return gzip.NewReader(bytes.NewReader(data))
}

func bzip2Reader(_ *walker, data []byte) (io.Reader, error) {
	return bzip2.NewReader(bytes.NewReader(data)), nil
}

func zstdReader(w *walker, data []byte) (io.Reader, error) { return w.zstd(bytes.NewReader(data)) }

func lz4Reader(_ *walker, data []byte) (io.Reader, error) {
	return lz4.NewReader(bytes.NewReader(data)), nil
}

// xzReader looks at the dictionary that the first block asks for: the library
// takes it at its word. That of a later block is bounded by the worker's memory.
func xzReader(w *walker, data []byte) (io.Reader, error) {
	if len(data) > 24 {
		header := data[12:min(len(data), 12+4*(int(data[12])+1))]
		if i := bytes.Index(header, []byte{0x21, 1}); i > 0 && i+2 < len(header) {
			if size, err := lzma.DecodeDictCap(header[i+2]); err == nil && size > w.lim.Dictionary {
				return nil, errDictionary
			}
		}
	}
	return xz.NewReader(bytes.NewReader(data))
}

var errNoReader = errors.New("no reader for this kind of archive")

// openNone is for archives that people can open and we cannot.
func openNone(*container) error { return errNoReader }

// isMailName says whether a client opens a file of this name as a mail.
func isMailName(name string) bool {
	switch extension(name) {
	case ".eml", ".mht", ".mhtml", ".nws", ".emlx":
		return true
	}
	return false
}

func openMail(c *container) error { return c.mail(c.data) }
