package sidecar

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/fxamacker/cbor/v2"
)

// A frame is a length of four bytes and a value in CBOR (RFC 8949): the texts of a
// mail and its parts go over as they are, which takes a fraction of what quoting
// them for JSON does.

var errFrame = errors.New("frame is too long")

// The modes of both sides. A worker may be in foreign hands: what it says is
// bounded in depth and number, and a score that is no number, which would make the
// sum of all scores none, is refused.
var (
	encoding = must(cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode())
	decoding = must(strict.DecMode())
	lenient  = must(anyText.DecMode())

	strict = cbor.DecOptions{MaxNestedLevels: 16, MaxArrayElements: 1 << 17, MaxMapPairs: 1 << 12, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		NaN: cbor.NaNDecodeForbidden, Inf: cbor.InfDecodeForbidden}
	anyText = func() cbor.DecOptions { o := strict; o.UTF8 = cbor.UTF8DecodeInvalid; return o }()
)

func must[T any](mode T, err error) T {
	if err != nil {
		panic(err) // The options are constants.
	}
	return mode
}

func readFrame[T any](r io.Reader, limit uint32, v *T) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > limit {
		return errFrame
	}
	// Grows as bytes come, not as the other side promises.
	var b bytes.Buffer
	b.Grow(int(min(n, 64<<10)) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(r, int64(n))); err != nil {
		return err
	}
	if uint32(b.Len()) != n {
		return io.ErrUnexpectedEOF
	}
	return decode(b.Bytes(), v)
}

// decode reads a value. Everybody behind it may rely on strings that are UTF-8:
// where one is not, which is rare, what is no text in it is replaced.
func decode[T any](b []byte, v *T) error {
	err := decoding.Unmarshal(b, v)
	if err == nil {
		return nil
	}
	if lenient.Unmarshal(b, v) != nil {
		return fmt.Errorf("read frame: %w", err)
	}
	// Through JSON, which has no other strings, into a value that has none yet.
	var clean T
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &clean)
	}
	if err != nil {
		return fmt.Errorf("make text of a frame valid: %w", err)
	}
	*v = clean
	return nil
}

func writeFrame(w io.Writer, v any) error {
	b, err := encoding.Marshal(v)
	if err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	if len(b) > maxResponse {
		return errFrame
	}
	_, err = (&net.Buffers{binary.BigEndian.AppendUint32(nil, uint32(len(b))), b}).WriteTo(w)
	return err
}
