package cape

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// stream reads one JSON object value by value, and keeps only what it is told
// to. The standard decoder keeps each text whole, and a report may have one of
// hundreds of megabytes.
type stream struct{ r *bufio.Reader }

func newStream(r io.Reader) *stream { return &stream{bufio.NewReaderSize(r, 64<<10)} }

var errJSON = errors.New("not JSON")

const (
	maxKey   = 1 << 10
	maxDepth = 10_000
)

// peek is the first byte of what comes next.
func (s *stream) peek() (byte, error) {
	for {
		c, err := s.r.ReadByte()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			continue
		}
		return c, s.r.UnreadByte()
	}
}

func (s *stream) next() (byte, error) {
	if _, err := s.peek(); err != nil {
		return 0, err
	}
	return s.r.ReadByte()
}

func (s *stream) expect(want byte) error {
	c, err := s.next()
	if err == nil && c != want {
		err = fmt.Errorf("%w: %q in place of %q", errJSON, c, want)
	}
	return err
}

// object calls fn for each key; fn reads the value.
func (s *stream) object(fn func(key string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if c, err := s.peek(); err != nil {
		return err
	} else if c == '}' {
		return s.expect('}')
	}
	for {
		if c, err := s.peek(); err != nil || c != '"' {
			return errors.Join(errJSON, err)
		}
		b, err := s.value(maxKey)
		if err != nil {
			return err
		}
		var key string // empty where it is too long to be one of ours
		if b != nil && json.Unmarshal(b, &key) != nil {
			return errJSON
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := fn(key); err != nil {
			return err
		}
		c, err := s.next()
		switch {
		case err != nil:
			return err
		case c == '}':
			return nil
		case c != ',':
			return errJSON
		}
	}
}

// filled reads a value and says whether it is a list with something in it.
func (s *stream) filled() (bool, error) {
	kind, err := s.peek()
	if err != nil {
		return false, err
	}
	b, err := s.value(2)
	return err == nil && kind == '[' && b == nil, err
}

// value reads one value. It returns its bytes, without white space outside of
// texts, or nil where they are more than keep.
func (s *stream) value(keep int) ([]byte, error) {
	if _, err := s.peek(); err != nil {
		return nil, err
	}
	v := &valueReader{keep: keep}
	for {
		c, err := s.r.ReadByte()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		done, take, err := v.step(c)
		if err != nil {
			return nil, err
		}
		if !take {
			return v.kept(), s.r.UnreadByte()
		}
		if done {
			return v.kept(), nil
		}
	}
}

// valueReader follows a value byte by byte: how deep it is, and whether a text
// is open.
type valueReader struct {
	keep          int
	buf           []byte
	over          bool
	depth         int
	text, escaped bool
	scalar        bool // a number or a word, which ends where something else begins
}

func (v *valueReader) kept() []byte {
	if v.over {
		return nil
	}
	return v.buf
}

func (v *valueReader) add(c byte) {
	if v.over = v.over || len(v.buf) >= v.keep; v.over {
		v.buf = nil
		return
	}
	v.buf = append(v.buf, c)
}

// step takes one byte: whether the value is done with it, and whether the byte
// belongs to it.
func (v *valueReader) step(c byte) (done, take bool, err error) {
	if v.text {
		v.add(c)
		switch {
		case v.escaped:
			v.escaped = false
		case c == '\\':
			v.escaped = true
		case c == '"':
			v.text = false
			return v.depth == 0, true, nil
		}
		return false, true, nil
	}
	switch c {
	case ' ', '\t', '\r', '\n':
		return false, !(v.scalar && v.depth == 0), nil
	case ',', ':', '}', ']':
		if v.depth == 0 {
			if !v.scalar {
				return false, false, errJSON
			}
			return false, false, nil
		}
	}
	v.add(c)
	switch c {
	case '"':
		v.text = true
	case '{', '[':
		if v.depth++; v.depth > maxDepth {
			return false, false, fmt.Errorf("%w: nested too deep", errJSON)
		}
	case '}', ']':
		v.depth--
		return v.depth == 0, true, nil
	default:
		v.scalar = true
	}
	return false, true, nil
}
