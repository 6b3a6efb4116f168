package sidecar

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"mailward/policy"
)

type countingMatcher struct {
	n    int
	hits []policy.Finding
	err  error
}

func (c *countingMatcher) Match([]byte, Vars) ([]policy.Finding, error) {
	c.n++
	return c.hits, c.err
}

func TestMemory(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := &countingMatcher{}
	m := newMemory(c, func() time.Time { return now })
	data := make([]byte, rememberMin)
	v := Vars{Path: "1.2", Name: "a.pdf", Ext: ".pdf", Sum: sha256.Sum256(data)}
	asked := func(want int, data []byte, v Vars) {
		t.Helper()
		before := c.n
		if _, err := m.Match(data, v); err != nil && c.err == nil {
			t.Fatal(err)
		}
		if c.n-before != want {
			t.Errorf("asked %d times, want %d", c.n-before, want)
		}
	}
	asked(1, data, v)
	asked(0, data, v)
	v.Path = "1.7"
	asked(0, data, v) // where it stands is nothing that a rule sees
	for _, change := range []func(*Vars){
		func(v *Vars) { v.Name = "b.pdf" }, func(v *Vars) { v.Ext = ".exe" }, func(v *Vars) { v.ContentType = "text/html" }, func(v *Vars) { v.TrueType = "x" },
		func(v *Vars) { v.Depth = 2 }, func(v *Vars) { v.Archived = true }, func(v *Vars) { v.Sum[0]++ },
	} {
		other := v
		change(&other)
		asked(1, data, other)
	}
	asked(1, append(data, 1), v)           // the head of it is not all of it
	asked(1, data[:rememberMin-1], v)      // small ones are always matched
	asked(1, data, Vars{Name: "preamble"}) // and those without a hash
	asked(1, data, Vars{Name: "preamble"})
	now = now.Add(rememberFor + time.Second)
	asked(1, data, v)
	// A hit and a failure are never remembered.
	v.Name = "hit"
	c.hits = []policy.Finding{{Name: "x"}}
	asked(1, data, v)
	asked(1, data, v)
	v.Name, c.hits, c.err = "failure", nil, errors.New("timeout")
	asked(1, data, v)
	asked(1, data, v)
}
