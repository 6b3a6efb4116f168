package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"mailward/audit"
	"mailward/internal/durable"
)

// lineLimit is below the 64 KiB at which Wazuh's agent drops a line.
const lineLimit = 60 << 10

// File appends one JSON object a line, as Wazuh's agent and others read it. Who
// rotates it may rename or remove it at any time: the next line goes to a new one.
type File struct {
	Path string
	// MaxSize is when the file becomes Path.1, and Path.1 Path.2; 0: never.
	MaxSize int64
	// Keep is how many of those stay.
	Keep int

	mu sync.Mutex // guards f
	f  *os.File
}

// Name implements [audit.Sink].
func (*File) Name() string { return "file" }

// Lock implements [audit.Sink].
func (*File) Lock() int { return audit.LockFile }

// Send appends the lines and has them on disk when it returns.
func (s *File) Send(_ context.Context, lines []audit.Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(); err != nil {
		s.close()
		return err
	}
	var b bytes.Buffer
	for _, line := range lines {
		one, err := wrap(line)
		if err != nil {
			return err
		}
		b.Write(one)
	}
	// One write: a reader sees whole lines, but for a crash in between.
	if _, err := s.f.Write(b.Bytes()); err != nil {
		s.close()
		return fmt.Errorf("write %s: %w", s.Path, err)
	}
	if err := s.f.Sync(); err != nil {
		s.close()
		return fmt.Errorf("write %s: %w", s.Path, err)
	}
	return nil
}

// wrap puts an event under a key of its own: Wazuh takes some names at the top
// (id, action, status) for its own fields.
func wrap(line audit.Line) ([]byte, error) {
	b, err := fit(line, lineLimit-1, func(fields map[string]any) any { return map[string]any{"mailward": fields} })
	return append(b, '\n'), err
}

// ready has the file open that is under the path now.
func (s *File) ready() error {
	if s.f != nil {
		mine, err := s.f.Stat()
		there, err2 := os.Stat(s.Path)
		if err != nil || err2 != nil || !os.SameFile(mine, there) {
			s.close() // rotated by somebody else
		} else if s.MaxSize > 0 && mine.Size() >= s.MaxSize {
			s.close()
			if err := s.rotate(); err != nil {
				return err
			}
		}
	}
	if s.f != nil {
		return nil
	}
	f, err := os.OpenFile(s.Path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o640)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.Path, err)
	}
	s.f = f
	return s.mend()
}

// mend ends a line that a crash has cut off: what comes next would be lost with it.
func (s *File) mend() error {
	st, err := s.f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := s.f.ReadAt(last, st.Size()-1); err != nil {
		return fmt.Errorf("read the end of %s: %w", s.Path, err)
	}
	if last[0] == '\n' {
		return nil
	}
	if _, err := s.f.Write([]byte("\n")); err != nil {
		return fmt.Errorf("write %s: %w", s.Path, err)
	}
	return nil
}

func (s *File) rotate() error {
	for i := max(s.Keep, 1); i > 0; i-- {
		from := s.Path
		if i > 1 {
			from += "." + strconv.Itoa(i-1)
		}
		if err := os.Rename(from, s.Path+"."+strconv.Itoa(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate %s: %w", s.Path, err)
		}
	}
	return durable.SyncDir(filepath.Dir(s.Path))
}

func (s *File) close() {
	if s.f != nil {
		s.f.Close()
		s.f = nil
	}
}

// Close gives the file back.
func (s *File) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
}
