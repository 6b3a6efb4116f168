package sidecar

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"mailward/policy"
)

// countingMatcher counts the big pieces that it is asked about.
type countingMatcher struct {
	n    int
	hits []policy.Finding
	err  error
}

func (c *countingMatcher) Match(data []byte, _ Vars) ([]policy.Finding, error) {
	if len(data) < rememberMin {
		return nil, nil
	}
	c.n++
	return c.hits, c.err
}

func junk(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func zipped(t *testing.T, files ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, f := range files {
		w, err := z.Create(fmt.Sprintf("f%d.bin", i))
		if err == nil {
			_, err = w.Write(f)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func attached(name string, data []byte) []byte {
	head := "From: a@b.example\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
	return fmt.Appendf(nil, "%s--b\r\n\r\nhello\r\n--b\r\nContent-Type: application/octet-stream; name=%s\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--b--\r\n", head, name, base64.StdEncoding.EncodeToString(data))
}

func TestMemory(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := &countingMatcher{}
	known := newMemory(func() time.Time { return now })
	lim := DefaultLimits()
	asked := func(what string, want int, mail []byte) *Response {
		t.Helper()
		before := c.n
		resp, err := (&Worker{Matcher: c, Limits: lim, known: known}).scan(mail)
		if err != nil && c.err == nil {
			t.Fatal(err)
		}
		if c.n-before != want {
			t.Errorf("%s: %d big pieces matched, want %d", what, c.n-before, want)
		}
		return resp
	}
	one, two := junk(1, 40<<10), junk(2, 50<<10)
	archive := zipped(t, one, two)

	first := asked("an archive", 3, attached("a.zip", archive))
	again := asked("the same archive", 0, attached("a.zip", archive))
	if len(first.Parts) != 4 || !reflect.DeepEqual(first.Parts, again.Parts) || !reflect.DeepEqual(first.Cuts, again.Cuts) {
		t.Errorf("parts %+v, and from memory %+v", first.Parts, again.Parts)
	}
	asked("another name", 1, attached("b.zip", archive)) // what is in it has the same
	asked("one bit more", 2, attached("a.zip", zipped(t, one, append(two, 1))))
	asked("a file of the archive by itself", 1, attached("f0.bin", one))

	// What the piece costs is booked all the same.
	lim.Files = 1
	if resp := asked("over a limit", 0, attached("a.zip", archive)); len(resp.Limits) == 0 {
		t.Error("a known archive goes past the limit of files")
	}
	lim = DefaultLimits()

	now = now.Add(rememberFor)
	asked("an hour later", 3, attached("a.zip", archive))

	// A hit, a failure and a limit are never remembered.
	c.hits = []policy.Finding{{Name: "x"}}
	hit := junk(3, 20<<10)
	for range 2 {
		if resp := asked("a hit", 1, attached("hit", hit)); len(resp.Findings) != 1 {
			t.Errorf("findings %v", resp.Findings)
		}
	}
	c.hits, c.err = nil, errors.New("timeout")
	for range 2 {
		asked("a failure", 1, attached("failure", junk(4, 20<<10)))
	}
	c.err, lim.Ratio = nil, 1
	bomb := zipped(t, make([]byte, 2<<20))
	bomb = append(bomb, junk(5, 20<<10)...) // behind the directory, so that it is a big piece
	for range 2 {
		if resp := asked("a limit", 1, attached("bomb.zip", bomb)); len(resp.Limits) != 1 {
			t.Errorf("limits %v", resp.Limits)
		}
	}
}

func TestMemory_IsBounded(t *testing.T) {
	t.Parallel()
	m := newMemory(time.Now)
	for i := range 100 {
		m.remember(pieceKey{name: fmt.Sprint(i)}, rememberMin, clean{inside: make([]policy.Part, 1000)})
	}
	if m.parts != rememberParts || m.pieces.Len() != rememberParts/1000 {
		t.Errorf("%d parts in %d pieces", m.parts, m.pieces.Len())
	}
	m.remember(pieceKey{name: "99"}, rememberMin, clean{})
	if m.parts != rememberParts-1000 {
		t.Errorf("%d parts after one piece got smaller", m.parts)
	}
	m.remember(pieceKey{name: "huge"}, rememberMin, clean{inside: make([]policy.Part, rememberParts)})
	m.remember(pieceKey{name: "small"}, rememberMin-1, clean{})
	for _, name := range []string{"0", "huge", "small"} {
		if _, ok := m.recall(pieceKey{name: name}, rememberMin); ok {
			t.Errorf("%s is remembered", name)
		}
	}
}
