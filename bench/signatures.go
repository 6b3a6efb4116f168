package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// The made-up database has about as many signatures of these two kinds as slow
// clamd down to what real ones do; none of them can match: each holds at least
// eight random bytes in a row.
const (
	hashSignatures = 120_000
	bodySignatures = 80_000
)

// writeSignatures makes a ClamAV database that knows the EICAR test file at any
// offset, and, when large, 200,000 signatures more.
func writeSignatures(dir string, large bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var hashes, bodies bytes.Buffer
	hashes.WriteString("44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test-Signature\n")
	fmt.Fprintf(&bodies, "Eicar-Test-Signature:0:*:%x\n", eicarFile())
	if large {
		var key [32]byte
		copy(key[:], "signatures")
		source := rand.NewChaCha8(key)
		g := &signatures{rng: rand.New(source), bytes: source}
		w := bufio.NewWriter(&hashes)
		for i := range hashSignatures {
			fmt.Fprintf(w, "%s:%d:Bench.Hash-%d\n", g.hex(16), 64+int(math.Exp(11.5+1.6*g.rng.NormFloat64())), i)
		}
		w.Flush()
		for i := range bodySignatures {
			fmt.Fprintf(&bodies, "Bench.Body-%d:%d:*:%s\n", i, g.target(), g.body())
		}
	}
	for name, b := range map[string]*bytes.Buffer{"bench.hdb": &hashes, "bench.ndb": &bodies} {
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

type signatures struct {
	rng   *rand.Rand
	bytes *rand.ChaCha8
}

func (g *signatures) hex(n int) string {
	b := make([]byte, n)
	g.bytes.Read(b)
	return hex.EncodeToString(b)
}

// between is a number from low to high.
func (g *signatures) between(low, high int) int { return low + g.rng.IntN(high-low+1) }

// target is the kind of file that a signature is for: any, PE, HTML, plain text.
func (g *signatures) target() int {
	switch n := g.rng.IntN(10); {
	case n < 6:
		return 0
	case n < 8:
		return 1
	case n < 9:
		return 3
	default:
		return 7
	}
}

// body is a plain string of bytes in six cases of ten, else one with wildcards.
func (g *signatures) body() string {
	if g.rng.IntN(10) < 6 {
		return g.hex(g.between(12, 60))
	}
	s := g.hex(g.between(8, 24))
	for range g.between(1, 3) {
		switch g.rng.IntN(3) {
		case 0:
			s += fmt.Sprintf("{%d-%d}", g.between(1, 8), g.between(9, 40))
		case 1:
			for range g.between(1, 3) {
				s += "??"
			}
		default:
			s += "*"
		}
		s += g.hex(g.between(8, 16))
	}
	return s
}
