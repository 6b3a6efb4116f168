package mailauth

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// maxSignedNames bounds h=; a mail of a thousand fields is no mail.
const maxSignedNames = 500

// message checks an ARC-Message-Signature: a DKIM signature with an instance
// number for a version (RFC 8617 §4.1.2).
func (v *verifier) message(s arcSet) error {
	t := s.amsTags
	// l= lets anyone add to the mail (RFC 6376 §8.2): worth nothing here.
	if _, has := t["l"]; has {
		return errors.New("l= is not accepted")
	}
	form, err := formOf(t)
	if err != nil {
		return err
	}
	if x, has, err := t.number("x"); err != nil {
		return err
	} else if has && v.now.Unix() > x {
		return errors.New("expired")
	}
	names := colonList(strings.ToLower(t["h"]))
	switch {
	case len(names) == 0 || len(names) > maxSignedNames || slices.Contains(names, ""):
		return errors.New("bad h=")
	case slices.Contains(names, nameAS):
		return errors.New("h= names ARC-Seal")
	case !slices.Contains(names, "from"):
		return errors.New("h= does not name From")
	}
	want, err := t.base64Tag("bh")
	if err != nil {
		return err
	}
	if !bytes.Equal(want, v.sums[form]) {
		return errors.New("body hash does not match")
	}
	digest, err := v.digest(t, names, s.ams)
	if err != nil {
		return err
	}
	return v.signature(t, digest)
}

// seal checks the ARC-Seal of the newest of sets. It covers all sets up to its
// own, oldest first, always relaxed (RFC 8617 §5.1.1).
func (v *verifier) seal(sets []arcSet) error {
	newest := sets[len(sets)-1]
	return v.signature(newest.sealTags, hashFields(relaxedHeader, sealed(sets), newest.seal))
}

// sealed is the fields a seal covers, without the newest seal itself.
func sealed(sets []arcSet) []field {
	var out []field
	for i, s := range sets {
		out = append(out, field{nameAAR, s.aar}, field{nameAMS, s.ams})
		if i < len(sets)-1 {
			out = append(out, field{nameAS, s.seal})
		}
	}
	return out
}
