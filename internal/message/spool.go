package message

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Config says how much mail is kept where while it is under way.
type Config struct {
	// Dir holds spooled mails that are too big for memory, as files without a name.
	Dir string
	// MemoryLimit is the size in bytes up to which a mail stays in memory. Default: 1 MiB.
	MemoryLimit int64
	// MaxSize is the largest mail in bytes. Default: 50 MiB.
	MaxSize int64
	// Budget bounds the bytes of all mails under way. Default: 1 GiB.
	Budget int64
	// MinFree is how many bytes must stay free on the disk of Dir. Default: 256 MiB.
	MinFree int64
	// Normalise turns bare CR and LF into CRLF, before hashing, instead of refusing them.
	Normalise bool
}

// DefaultConfig returns the settings used where nothing else is said.
func DefaultConfig() Config {
	return Config{MemoryLimit: 1 << 20, MaxSize: 50 << 20, Budget: 1 << 30, MinFree: 256 << 20}
}

// Spooler makes spools.
type Spooler struct {
	cfg  Config
	used atomic.Int64 // bytes of all spools that are not closed
	bufs sync.Pool
}

// NewSpooler prepares the folder for big mails.
func NewSpooler(cfg Config) (*Spooler, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool folder: %w", err)
	}
	s := &Spooler{cfg: cfg}
	s.bufs.New = func() any { return bufio.NewReaderSize(nil, 64<<10) }
	return s, nil
}

// Room says whether another mail of the announced size (0: unknown) may come:
// nil, [ErrBudget] or [ErrDiskFull].
func (s *Spooler) Room(size int64) error {
	if s.used.Load()+size > s.cfg.Budget {
		return ErrBudget
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.cfg.Dir, &st); err == nil && int64(st.Bavail)*st.Bsize < s.cfg.MinFree+size {
		return ErrDiskFull
	}
	return nil
}

// Used is how many bytes of mail are under way now.
func (s *Spooler) Used() int64 { return s.used.Load() }

// Spool is one mail's bytes, read-only. Its methods may be called at the same
// time. Close frees it; nothing of it may be used after that.
type Spool struct {
	file      *os.File
	size      int64
	sum       [sha256.Size]byte
	headerLen int
	received  int
	eightBit  bool
	owner     *Spooler
	once      sync.Once
}

// Spool reads a whole mail, without the dot that ends it. It checks line ends,
// hashes and counts in the one pass. On an error nothing is kept.
func (s *Spooler) Spool(ctx context.Context, r io.Reader) (*Spool, error) {
	w := &writer{s: s, hash: sha256.New()}
	br := s.bufs.Get().(*bufio.Reader)
	br.Reset(r)
	defer func() { br.Reset(nil); s.bufs.Put(br) }()

	lines := strictCRLF{normalise: s.cfg.Normalise}
	buf := make([]byte, 0, 64<<10)
	chunk := make([]byte, 32<<10)
	for {
		n, err := br.Read(chunk)
		if n > 0 {
			var lerr error
			if buf, lerr = lines.filter(buf[:0], chunk[:n]); lerr != nil {
				w.abort()
				return nil, lerr
			}
			if werr := w.write(buf); werr != nil {
				w.abort()
				return nil, werr
			}
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			w.abort()
			return nil, fmt.Errorf("read mail: %w", err)
		}
	}
	rest, err := lines.end()
	if err == nil {
		err = w.write(rest)
	}
	if err != nil {
		w.abort()
		return nil, err
	}
	return w.finish()
}

// writer collects one mail: in memory first, from MemoryLimit on in a file.
type writer struct {
	s       *Spooler
	hash    hash.Hash
	mem     []byte
	file    *os.File
	size    int64
	charged int64
	head    headScanner
}

func (w *writer) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	w.size += int64(len(b))
	if w.size > w.s.cfg.MaxSize {
		return ErrTooBig
	}
	if err := w.charge(); err != nil {
		return err
	}
	w.hash.Write(b)
	w.head.scan(b)
	if w.file == nil && w.size <= w.s.cfg.MemoryLimit {
		w.mem = append(w.mem, b...)
		return nil
	}
	if w.file == nil {
		if err := w.toFile(); err != nil {
			return err
		}
	}
	_, err := w.file.Write(b)
	return w.diskError(err)
}

// charge books the mail's size in steps, so that the counter is not touched for each line.
func (w *writer) charge() error {
	const step = 256 << 10
	for w.charged < w.size {
		if w.s.used.Add(step) > w.s.cfg.Budget {
			w.s.used.Add(-step)
			return ErrBudget
		}
		w.charged += step
	}
	return nil
}

func (w *writer) toFile() error {
	f, err := os.CreateTemp(w.s.cfg.Dir, "mail-*")
	if err != nil {
		return w.diskError(err)
	}
	// Without a name nobody else finds it, and the kernel removes it with the process.
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return fmt.Errorf("unlink spool file: %w", err)
	}
	w.file = f
	_, err = f.Write(w.mem)
	w.mem = nil
	return w.diskError(err)
}

func (w *writer) diskError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	default:
		return fmt.Errorf("write spool: %w", err)
	}
}

func (w *writer) abort() {
	if w.file != nil {
		w.file.Close()
	}
	w.s.used.Add(-w.charged)
	w.charged = 0
}

// finish makes the bytes unchangeable and hands them out.
func (w *writer) finish() (*Spool, error) {
	if w.file == nil {
		f, err := memoryFile(w.mem)
		if err != nil {
			w.abort()
			return nil, err
		}
		w.file = f
	} else if err := readOnly(&w.file); err != nil {
		w.abort()
		return nil, err
	}
	sp := &Spool{file: w.file, size: w.size, headerLen: w.head.length(), received: w.head.received, eightBit: w.head.eightBit, owner: w.s}
	w.hash.Sum(sp.sum[:0])
	charged := w.charged
	w.charged = 0
	sp.owner.used.Add(sp.size - charged)
	return sp, nil
}

// memoryFile puts b into a file that lives in memory and that nobody, not even
// its holder, can write to any more: the scanner gets its descriptor.
func memoryFile(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("mail", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "mail")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, fmt.Errorf("write memory file: %w", err)
	}
	seals := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal memory file: %w", err)
	}
	return f, nil
}

// readOnly replaces f by a descriptor that cannot write. The file has no name
// and mode 0600, so another user cannot open it again for writing.
func readOnly(f **os.File) error {
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", (*f).Fd()))
	if err != nil {
		return fmt.Errorf("reopen spool file: %w", err)
	}
	(*f).Close()
	*f = ro
	return nil
}

// FromBytes makes a spool of a mail that is already in memory, within the
// spooler's limits and rules.
func (s *Spooler) FromBytes(b []byte) (*Spool, error) {
	return s.Spool(context.Background(), bytes.NewReader(b))
}

// FromFile makes a spool of a mail on disk.
func (s *Spooler) FromFile(path string) (*Spool, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.Spool(context.Background(), f)
}

// File is the mail as a descriptor for another process. Its offset is shared:
// whoever reads it must use positions of their own (pread).
func (s *Spool) File() *os.File { return s.file }

// Size is the number of bytes of the mail, line ends included.
func (s *Spool) Size() int64 { return s.size }

// SHA256 is the hash of those bytes.
func (s *Spool) SHA256() [sha256.Size]byte { return s.sum }

// HeaderLen is the length of the header, the empty line after it included.
func (s *Spool) HeaderLen() int { return s.headerLen }

// ReceivedCount is how many Received fields the header has (RFC 5321 §6.3).
func (s *Spool) ReceivedCount() int { return s.received }

// EightBit says whether the mail has bytes above 127.
func (s *Spool) EightBit() bool { return s.eightBit }

// NewReader reads the mail from its start, apart from all other readers.
func (s *Spool) NewReader() *io.SectionReader { return io.NewSectionReader(s.file, 0, s.size) }

// Header is the mail's header, up to limit bytes of it.
func (s *Spool) Header(limit int) ([]byte, error) {
	b := make([]byte, min(s.headerLen, limit))
	if _, err := s.file.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read header of spool: %w", err)
	}
	return b, nil
}

// Close frees the spool. It may be called more than once.
func (s *Spool) Close() {
	s.once.Do(func() {
		s.file.Close()
		s.owner.used.Add(-s.size)
	})
}
