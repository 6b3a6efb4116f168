package scanner

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

	"golang.org/x/sys/unix"

	"mailward/internal/message"
	"mailward/scanner/sidecar"
)

// Cut is a part that can be scanned decoded, on its own.
type Cut = sidecar.Cut

const (
	// splitMin is the size in bytes of a mail from which it may be split. Smaller
	// ones are scanned whole, at once and beside the sidecar.
	splitMin = 96 << 10
	// splitMost bounds the decoded parts of one mail, which are held in memory;
	// bigger mails are scanned whole.
	splitMost = 24 << 20
	// headKept is how much of a part's encoded body stays in the skeleton, so that
	// an engine that reads MIME sees what the part is.
	headKept = 4 << 10
)

// errSplit means that a mail cannot be split as the sidecar says: it is
// scanned whole.
var errSplit = errors.New("scanner: the cuts do not fit the mail")

// piece is one file for an engine: the skeleton (Cut.Path is "") or a part.
type piece struct {
	Cut
	file *os.File
	sum  [sha256.Size]byte
	size int64
}

// split makes a skeleton and decoded parts of a mail. Together they have every
// byte of it: the skeleton lacks only what the parts have decoded.
//
// The sidecar only says where to cut, and is not believed: each cut must be a
// whole body between an empty line and a boundary line, and be strict base64.
// So a worker that was taken over cannot keep bytes from the other engines.
// hashed says whether the parts' hashes are wanted.
func split(ctx context.Context, sp *message.Spool, cuts []Cut, hashed bool) (pieces []piece, err error) {
	defer func() {
		if err != nil {
			closeAll(pieces)
			pieces = nil
		}
	}()
	var total, at int64
	var out []message.Range
	for _, c := range cuts {
		if total += c.Length; c.Offset < at || c.Length < headKept*2 || c.Offset+c.Length > sp.Size() || total/4*3 > splitMost {
			return nil, errSplit
		}
		at = c.Offset + c.Length
		r, err := checkCut(sp, c)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	skeleton, err := fill(ctx, "skeleton", message.Without(sp.File(), sp.Size(), out), nil)
	if err != nil {
		return nil, err
	}
	pieces = append(pieces, skeleton)
	for _, c := range cuts {
		var sum hash.Hash
		if hashed {
			sum = sha256.New()
		}
		bufs := decodeBuffers.Get().(*[2][]byte)
		p, err := fill(ctx, "part", &decoder{r: io.NewSectionReader(sp.File(), c.Offset, c.Length), in: bufs[0], buf: bufs[1]}, sum)
		decodeBuffers.Put(bufs)
		if err != nil {
			return pieces, fmt.Errorf("%w: %w", errSplit, err)
		}
		p.Cut = c
		pieces = append(pieces, p)
	}
	return pieces, nil
}

// checkCut looks at what stands before and behind a cut, and says which bytes
// the skeleton does without.
func checkCut(sp *message.Spool, c Cut) (message.Range, error) {
	before, after := make([]byte, 4), make([]byte, 4)
	if _, err := sp.File().ReadAt(before, c.Offset-4); err != nil || string(before) != "\r\n\r\n" {
		return message.Range{}, errSplit
	}
	n, err := sp.File().ReadAt(after, c.Offset+c.Length)
	if err != nil && err != io.EOF {
		return message.Range{}, fmt.Errorf("read mail behind a part: %w", err)
	}
	if rest := bytes.TrimLeft(after[:n], "\r\n"); len(rest) > 0 && rest[0] != '-' {
		return message.Range{}, errSplit
	}
	head := make([]byte, headKept)
	if _, err := sp.File().ReadAt(head, c.Offset); err != nil {
		return message.Range{}, fmt.Errorf("read head of a part: %w", err)
	}
	i := bytes.LastIndexByte(head, '\n')
	if i < 0 {
		return message.Range{}, errSplit // One endless line.
	}
	return message.Range{Offset: c.Offset + int64(i) + 1, Length: c.Length - int64(i) - 1}, nil
}

// decoder reads strict base64 in big pieces that end with a line, which is much
// faster than a reader of single lines. Where lines do not end between
// quantums it fails, and the mail is scanned whole.
type decoder struct {
	r    io.Reader
	in   []byte // encoded; what could not be decoded yet stands in front
	kept int
	out  []byte // decoded, not read yet
	buf  []byte
	end  bool
}

const decodeStep = 256 << 10

var decodeBuffers = sync.Pool{New: func() any { return &[2][]byte{make([]byte, decodeStep), make([]byte, decodeStep)} }}

func (d *decoder) Read(p []byte) (int, error) {
	for len(d.out) == 0 {
		if d.end {
			return 0, io.EOF
		}
		if err := d.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

func (d *decoder) more() error {
	n, err := io.ReadFull(d.r, d.in[d.kept:])
	n += d.kept
	switch err {
	case io.EOF, io.ErrUnexpectedEOF:
		d.end = true
	case nil:
	default:
		return fmt.Errorf("read part: %w", err)
	}
	use := n
	if !d.end {
		if use = bytes.LastIndexByte(d.in[:n], '\n') + 1; use == 0 {
			return errSplit
		}
	}
	m, err := sidecar.DecodeLines(d.buf, d.in[:use])
	if err != nil {
		return err
	}
	d.out, d.kept = d.buf[:m], copy(d.in, d.in[use:n])
	return nil
}

var fillBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// fill writes a piece into a file in memory that nobody can change afterwards,
// and hashes it where sum is given.
func fill(ctx context.Context, name string, r io.Reader, sum hash.Hash) (piece, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return piece{}, fmt.Errorf("make file for a %s: %w", name, err)
	}
	p := piece{file: os.NewFile(uintptr(fd), name)}
	buf := fillBuffers.Get().(*[]byte)
	defer fillBuffers.Put(buf)
	for {
		n, err := io.ReadFull(r, *buf)
		if sum != nil {
			sum.Write((*buf)[:n])
		}
		p.size += int64(n)
		if _, werr := p.file.Write((*buf)[:n]); werr != nil || ctx.Err() != nil {
			p.file.Close()
			return piece{}, errors.Join(werr, ctx.Err())
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			p.file.Close()
			return piece{}, err
		}
	}
	if sum != nil {
		sum.Sum(p.sum[:0])
	}
	if _, err := unix.FcntlInt(p.file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		p.file.Close()
		return piece{}, fmt.Errorf("seal %s: %w", name, err)
	}
	return p, nil
}

func closeAll(pieces []piece) {
	for _, p := range pieces {
		p.file.Close()
	}
}
