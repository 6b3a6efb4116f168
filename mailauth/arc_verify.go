package mailauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// maxSignedNames bounds h=; a mail of a thousand fields is no mail.
const maxSignedNames = 500

// verifier checks the signatures of one mail's chain.
type verifier struct {
	ctx    context.Context
	dns    Resolver
	fields *fields
	now    time.Time

	keys    map[string]answer // asked once each
	relaxed []byte            // the body's hash in each form that is asked for
	simple  []byte
}

type answer struct {
	key publicKey
	err error
}

// key asks for a signature's key, each name once and maxChainKeys in all.
func (v *verifier) key(t tags) (publicKey, error) {
	name := strings.ToLower(t["s"] + "._domainkey." + t["d"])
	if a, ok := v.keys[name]; ok {
		return a.key, a.err
	}
	if len(v.keys) >= maxChainKeys {
		return publicKey{}, errors.New("too many keys in one chain")
	}
	var a answer
	a.key, a.err = lookupKey(v.ctx, v.dns, t["d"], t["s"])
	v.keys[name] = a
	return a.key, a.err
}

// hashBodies reads the body once for all message signatures.
func (v *verifier) hashBodies(sets []arcSet, body func() io.Reader) error {
	var relaxed, simple *bodyHash
	var all []*bodyHash
	for _, s := range sets {
		_, b, err := canonOf(s.amsTags)
		switch {
		case err != nil: // shows when that signature is checked
		case b == "relaxed" && relaxed == nil:
			relaxed = newBodyHash(true)
			all = append(all, relaxed)
		case b == "simple" && simple == nil:
			simple = newBodyHash(false)
			all = append(all, simple)
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := hashBody(v.ctx, body(), all...); err != nil {
		// The mail could not be read: our trouble, not the chain's.
		return fmt.Errorf("%w: %w", errTemporary, err)
	}
	if relaxed != nil {
		v.relaxed = relaxed.sum()
	}
	if simple != nil {
		v.simple = simple.sum()
	}
	return nil
}

// canonOf reads c= (RFC 6376 §3.5): simple where it is silent.
func canonOf(t tags) (header, body string, err error) {
	c, ok := t["c"]
	if !ok {
		return "simple", "simple", nil
	}
	header, body, both := strings.Cut(strings.ToLower(c), "/")
	if !both {
		body = "simple"
	}
	for _, s := range []string{header, body} {
		if s != "simple" && s != "relaxed" {
			return "", "", errors.New("unknown canonicalisation")
		}
	}
	return header, body, nil
}

// message checks an ARC-Message-Signature: a DKIM signature with an instance
// number for a version (RFC 8617 §4.1.2).
func (v *verifier) message(s arcSet) error {
	t := s.amsTags
	header, body, err := canonOf(t)
	if err != nil {
		return err
	}
	// l= lets anyone add to the mail (RFC 6376 §8.2): worth nothing here.
	if _, has := t["l"]; has {
		return errors.New("l= is not accepted")
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
	got, canon := v.simple, simpleHeader
	if body == "relaxed" {
		got = v.relaxed
	}
	if header == "relaxed" {
		canon = relaxedHeader
	}
	if !bytes.Equal(want, got) {
		return errors.New("body hash does not match")
	}
	return v.signature(t, hashFields(canon, v.fields.pick(names), s.ams))
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

func (v *verifier) signature(t tags, digest []byte) error {
	sig, err := t.base64Tag("b")
	if err != nil {
		return err
	}
	key, err := v.key(t)
	if err != nil {
		return err
	}
	return key.verify(strings.ToLower(t["a"]), digest, sig)
}
