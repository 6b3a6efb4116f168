package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

// TestDeletions: protocols are events, whose own time is over some day. Then that of
// their deletion stands for them, and only a chain that ends at one that is there counts.
func TestDeletions(t *testing.T) {
	t.Parallel()
	none := hex.EncodeToString(sha256.New().Sum(nil))
	for name, c := range map[string]struct {
		digests map[string]*string
		taken   map[string]string
		want    string
	}{
		"there":                      {map[string]*string{"a": &none}, nil, ""},
		"about others":               {map[string]*string{"a": new(string)}, nil, "not about"},
		"gone":                       {map[string]*string{"a": nil}, nil, "the protocol a of their deletion too"},
		"gone in a deletion":         {map[string]*string{"a": nil, "b": &none}, map[string]string{"a": "b"}, ""},
		"and that in another":        {map[string]*string{"a": nil, "b": nil, "c": &none}, map[string]string{"a": "b", "b": "c"}, ""},
		"each by the other":          {map[string]*string{"a": nil, "b": nil}, map[string]string{"a": "b", "b": "a"}, "the protocol a"},
		"by one that nobody knows":   {map[string]*string{"a": nil}, map[string]string{"a": "x"}, "the protocol a"},
		"by one that has itself too": {map[string]*string{"a": nil}, map[string]string{"a": "a"}, "the protocol a"},
	} {
		d := deletions{by: map[string]*deletion{}, number: map[int64]*deletion{}}
		for id, digest := range c.digests {
			d.by[id] = &deletion{digest: digest, missing: sha256.New(), takenBy: c.taken[id]}
		}
		if got := d.problem(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
