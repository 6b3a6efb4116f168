package sidecar

import (
	"encoding/binary"
	"io"
	"slices"
	"time"

	"mailward/policy"
)

// MaxPart is the largest part that is handed out: CAPE takes 30 MB by default.
const MaxPart = 30_000_000

// PartOut is a decoded part that somebody asked for. Its bytes follow the
// answer in a frame of their own.
type PartOut struct {
	policy.Part
	Found bool `json:"found"`
	data  []byte
}

// part takes a mail apart until the part with this hash comes. The hash, not
// the path, names it: another version of this program may number parts in
// another way than the one that has seen the mail arrive.
func (s *Worker) part(data []byte, sum string) *PartOut {
	out := &PartOut{}
	w := &walker{lim: s.Limits, mail: data, match: nothing{}, inflate: s.Inflate, buffers: &s.buffers, end: time.Now().Add(s.Limits.Time), resp: &Response{}, anomaly: map[string]bool{}}
	w.take = func(p policy.Part, b []byte) {
		if p.SHA256 == sum && !out.Found && len(b) <= MaxPart {
			out.Part, out.Found, out.data = p, true, slices.Clone(b)
			w.end = time.Time{} // the rest need not be looked at
		}
	}
	// A limit that is hit on the way is no matter where the part was found.
	w.entity("1", data, 0, true)
	return out
}

// nothing matches no rule.
type nothing struct{}

// Match implements [Matcher].
func (nothing) Match([]byte, Vars) ([]policy.Finding, error) { return nil, nil }

// writeRaw sends the bytes of a part.
func writeRaw(w io.Writer, b []byte) error {
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

// ReadPart reads the bytes that follow the answer to [OpPart].
func ReadPart(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxPart {
		return nil, errFrame
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && uint32(len(b)) != n {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}
