package message

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Config says how much mail is kept where while it is under way.
type Config struct {
	// Dir holds spooled mails that are too big for memory, as files without a name.
	Dir string
	// MemoryLimit is the size in bytes up to which a mail stays in memory. Default: 8 MiB.
	MemoryLimit int64
	// MemoryBudget bounds the bytes of all mails in memory; what comes beyond goes to Dir. Default: 96 MiB.
	MemoryBudget int64
	// MaxSize is the largest mail in bytes. Default: 50 MiB.
	MaxSize int64
	// MaxLine is the longest line in octets, without its CRLF. Default: 1 MiB.
	MaxLine int
	// Budget bounds the bytes of all mails under way. Default: 16 GiB, most of it on disk.
	Budget int64
	// MinFree is how many bytes must stay free on the disk of Dir. Default: 256 MiB.
	MinFree int64
	// Normalise turns bare CR and LF into CRLF, before hashing, instead of refusing them.
	Normalise bool
}

// DefaultConfig returns the settings used where nothing else is said.
func DefaultConfig() Config {
	return Config{MemoryLimit: 8 << 20, MemoryBudget: 96 << 20, MaxSize: 50 << 20, MaxLine: 1 << 20, Budget: 16 << 30, MinFree: 256 << 20}
}

// Spooler makes spools.
type Spooler struct {
	cfg      Config
	used     atomic.Int64 // bytes of all spools that are not closed
	inMemory atomic.Int64 // those of them that are in memory
}

// NewSpooler prepares the folder for big mails.
func NewSpooler(cfg Config) (*Spooler, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool folder: %w", err)
	}
	return &Spooler{cfg: cfg}, nil
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
	memory    int64 // booked of the memory budget
	sum       [sha256.Size]byte
	headerLen int
	received  int
	eightBit  bool
	owner     *Spooler
	once      sync.Once
}

// Spool reads a whole mail, without the dot that ends it. It checks line ends,
// hashes and counts in the one pass. A reader that is an [io.WriterTo] hands its
// bytes over without a copy. On an error nothing is kept.
func (s *Spooler) Spool(ctx context.Context, r io.Reader) (*Spool, error) {
	w := &writer{ctx: ctx, s: s, hash: sha256.New(), lines: strictCRLF{normalise: s.cfg.Normalise, maxLine: s.cfg.MaxLine}}
	_, err := io.Copy(w, r)
	if err == nil {
		err = w.end()
	}
	if err == nil {
		var sp *Spool
		if sp, err = w.finish(); err == nil {
			return sp, nil
		}
	}
	w.abort()
	if w.err != nil {
		return nil, w.err // Ours, not the reader's.
	}
	return nil, fmt.Errorf("read mail: %w", err)
}

// writer collects one mail: in memory first, from MemoryLimit on in a file.
type writer struct {
	ctx     context.Context
	s       *Spooler
	hash    hash.Hash
	lines   strictCRLF
	hidden  HiddenEnd
	head    headScanner
	file    *os.File
	size    int64
	charged int64 // booked of the budget
	memory  int64 // booked of the memory budget; 0: the file is on disk
	err     error
}

// Write implements [io.Writer]. Its errors say what is wrong with the mail, or
// with our own stores.
func (w *writer) Write(b []byte) (int, error) {
	if w.err = w.ctx.Err(); w.err != nil {
		return 0, w.err
	}
	kept, err := w.lines.filter(b)
	if err == nil {
		err = w.keep(kept)
	}
	if w.err = err; err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w *writer) keep(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if w.hidden.Find(b) {
		return ErrHiddenEnd
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
	if err := w.room(); err != nil {
		return err
	}
	_, err := w.file.Write(b)
	return w.diskError(err)
}

// end writes what the line check has held back.
func (w *writer) end() error {
	rest, err := w.lines.end()
	if err == nil {
		err = w.keep(rest)
	}
	if err == nil && w.hidden.AtEnd() {
		err = ErrHiddenEnd // its line end comes with the end of the mail
	}
	w.err = err
	return err
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

// room makes sure that there is a file for the bytes so far: in memory, or on
// disk when the mail or all mails in memory are too big for that.
func (w *writer) room() error {
	inMemory := w.file == nil || w.memory > 0
	if inMemory && w.size <= w.s.cfg.MemoryLimit && w.book() {
		if w.file != nil {
			return nil
		}
		var err error
		w.file, err = newMemoryFile()
		return err
	}
	if !inMemory {
		return nil
	}
	return w.toDisk()
}

// book takes memory from the budget in steps of 64 KiB. False: there is none.
func (w *writer) book() bool {
	const step = 64 << 10
	for w.memory < w.size {
		if w.s.inMemory.Add(step) > w.s.cfg.MemoryBudget {
			w.s.inMemory.Add(-step)
			return false
		}
		w.memory += step
	}
	return true
}

// toDisk moves the mail so far into a file. Without a name nobody else finds it,
// and the kernel removes it with the process.
func (w *writer) toDisk() error {
	f, err := os.CreateTemp(w.s.cfg.Dir, "mail-*")
	if err != nil {
		return w.diskError(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return fmt.Errorf("unlink spool file: %w", err)
	}
	memory := w.file
	w.file = f
	if memory != nil {
		defer memory.Close()
		if _, err := memory.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("rewind memory file: %w", err)
		}
		if _, err := io.Copy(f, memory); err != nil {
			return w.diskError(err)
		}
	}
	w.s.inMemory.Add(-w.memory)
	w.memory = 0
	return nil
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
	w.s.inMemory.Add(-w.memory)
	w.charged, w.memory = 0, 0
}

// finish makes the bytes unchangeable and hands them out.
func (w *writer) finish() (*Spool, error) {
	if w.file == nil { // an empty mail
		if w.err = w.room(); w.err != nil {
			return nil, w.err
		}
		w.memory++ // It is in memory, however little.
		w.s.inMemory.Add(1)
	}
	if w.memory > 0 {
		w.err = seal(w.file)
	} else {
		w.err = readOnly(&w.file)
	}
	if w.err != nil {
		return nil, w.err
	}
	sp := &Spool{file: w.file, size: w.size, memory: w.memory, headerLen: w.head.length(), received: w.head.received, eightBit: w.head.eightBit, owner: w.s}
	w.hash.Sum(sp.sum[:0])
	sp.owner.used.Add(sp.size - w.charged)
	return sp, nil
}

// newMemoryFile makes a file that lives in memory.
func newMemoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("mail", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	return os.NewFile(uintptr(fd), "mail"), nil
}

// seal makes a memory file one that nobody, not even its holder, can write to
// any more: the scanner gets its descriptor.
func seal(f *os.File) error {
	seals := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal memory file: %w", err)
	}
	return nil
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
		s.owner.inMemory.Add(-s.memory)
	})
}
