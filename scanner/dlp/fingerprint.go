package dlp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"mailward/policy"
)

// A document is remembered by winnowing (Schleimer, Wilkerson, Aiken, 2003): of
// the hashes of all runs of five words, the least of every eight neighbours. Any
// twelve words in a row that two texts share give at least one hash that both have.
const (
	shingle = 5
	window  = 8
	// minWords is from how many words on a text can be remembered.
	minWords = shingle + window - 1
)

// Bounds of fingerprints.
const (
	MaxDocument     = 1 << 20 // bytes of text of one document
	maxHashes       = 50_000  // of one document
	MaxFingerprints = 100     // of one set
)

// Fingerprint is how a document is recognised: by the SHA-256 of its bytes as a
// part of a mail, and by hashes of its words. The text itself is not kept.
type Fingerprint struct {
	ID        uuid.UUID `json:"id"`
	Set       uuid.UUID `json:"set_id"`
	Name      string    `json:"name"`
	SHA256    string    `json:"sha256,omitempty"` // of the file; empty: only its text is known
	Words     int       `json:"words"`            // of the text; 0: only the file is known
	Hashes    []uint64  `json:"-"`
	CreatedAt time.Time `json:"created_at"`
}

// Document is what somebody gives to be recognised: a file or its SHA-256, its
// text, or both.
type Document struct {
	Name   string
	File   []byte
	SHA256 string // hexadecimal, in place of File
	Text   string
}

// fingerprint of a document. A file that is text itself needs none beside it.
func (d Document) fingerprint() (Fingerprint, error) {
	f := Fingerprint{Name: strings.TrimSpace(strings.ToValidUTF8(d.Name, ""))}
	if f.Name == "" || len(f.Name) > maxName {
		return f, &policy.InvalidError{Field: "name", Problem: fmt.Sprintf("must have 1 to %d characters", maxName)}
	}
	if len(d.File) > 0 {
		sum := sha256.Sum256(d.File)
		f.SHA256 = hex.EncodeToString(sum[:])
		if d.Text == "" && utf8.Valid(d.File) && !slices.Contains(d.File, 0) {
			d.Text = string(d.File)
		}
	}
	if d.SHA256 = strings.ToLower(strings.TrimSpace(d.SHA256)); d.SHA256 != "" && f.SHA256 == "" {
		if sum, err := hex.DecodeString(d.SHA256); err != nil || len(sum) != sha256.Size {
			return f, &policy.InvalidError{Field: "sha256", Problem: "must be 64 hexadecimal digits"}
		}
		f.SHA256 = d.SHA256
	}
	if len(d.Text) > MaxDocument {
		return f, &policy.InvalidError{Field: "text", Problem: fmt.Sprintf("must not be longer than %d bytes", MaxDocument)}
	}
	list := words(normalise(d.Text))
	f.Words = len(list)
	winnow(list, func(h uint64) { f.Hashes = append(f.Hashes, h) })
	slices.Sort(f.Hashes)
	f.Hashes = slices.Compact(f.Hashes)
	if len(f.Hashes) > maxHashes {
		f.Hashes = f.Hashes[:maxHashes]
	}
	if len(f.Hashes) == 0 {
		f.Words = 0
	}
	if f.SHA256 == "" && len(f.Hashes) == 0 {
		return f, &policy.InvalidError{Field: "text", Problem: fmt.Sprintf("must have at least %d words; a shorter one is a keyword", minWords)}
	}
	return f, nil
}

// winnow picks the hashes that stand for a text.
func winnow(list []word, pick func(uint64)) {
	if len(list) < minWords {
		return
	}
	var recent [window]uint64 // the runs that end with this one, as a ring
	last, least := -1, 0      // the last that was picked; the least of the window
	for i := range len(list) - shingle + 1 {
		h := hashOffset
		for _, w := range list[i : i+shingle] {
			h = (h ^ w.hash) * hashPrime
			h ^= h >> 29 // so that the high bits count too
		}
		recent[i%window] = h
		switch {
		case least <= i-window: // it has left the window: look for the next
			least = i - window + 1
			for j := least + 1; j <= i; j++ {
				if recent[j%window] <= recent[least%window] {
					least = j
				}
			}
		case h <= recent[least%window]:
			least = i
		}
		if i >= window-1 && least != last {
			pick(recent[least%window])
			last = least
		}
	}
}
