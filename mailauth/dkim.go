package mailauth

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	nameDKIM = "dkim-signature"
	// maxSignatures is how many signatures of a mail are checked: the best ones.
	maxSignatures = 5
	// strongRSABits is what RFC 8301 §3.2 wants of signers.
	strongRSABits = 2048
)

// signature is a DKIM-Signature field.
type signature struct {
	raw  []byte
	tags tags
	err  error // it cannot be checked (RFC 6376 §6.1.1)
	rank int   // the lower the better
	DKIM
}

// readSignatures reads the signatures of a mail, the ones that matter first:
// of the author's own domain, then of those around it, then the rest in the
// order of the header. unchecked is how many there are beyond maxSignatures.
func readSignatures(f *fields, from string) (list []*signature, unchecked int) {
	for _, at := range f.named(nameDKIM) {
		list = append(list, readSignature(f.list[at].raw, from))
	}
	slices.SortStableFunc(list, func(a, b *signature) int { return a.rank - b.rank })
	if len(list) > maxSignatures {
		return list[:maxSignatures], len(list) - maxSignatures
	}
	return list, 0
}

func readSignature(raw []byte, from string) *signature {
	s := &signature{raw: raw, rank: 3}
	_, value, _ := strings.Cut(string(trimCRLF(raw)), ":")
	if s.tags, s.err = parseTags(value); s.err != nil {
		s.tags = nil
		return s
	}
	t := s.tags
	for _, n := range []string{"d", "s"} { // RFC 8616 §5: U-labels may stand here, and in i=
		if a, err := aLabels(t[n]); err == nil {
			t[n] = a
		}
	}
	if local, domain, ok := cutLast(t["i"], "@"); ok {
		if a, err := aLabels(domain); err == nil {
			t["i"] = local + "@" + a
		}
	}
	s.Domain = safeName(strings.ToLower(t["d"]))
	s.Selector, s.Algorithm, s.Identity = safe(t["s"]), safe(strings.ToLower(t["a"])), safe(t["i"])
	b := stripFWS(t["b"])
	s.Signature = safe(b[:min(len(b), 8)])
	if s.err = checkSignature(t); s.err != nil {
		return s
	}
	switch d := strings.ToLower(t["d"]); {
	case from == "":
		s.rank = 2
	case d == from:
		s.rank = 0
	case strings.HasSuffix(from, "."+d) || strings.HasSuffix(d, "."+from):
		s.rank = 1
	default:
		s.rank = 2
	}
	return s
}

// checkSignature holds a signature to its form (RFC 6376 §6.1.1).
func checkSignature(t tags) error {
	if t["v"] != "1" {
		return errors.New("unknown version")
	}
	if strings.EqualFold(t["a"], "rsa-sha1") { // RFC 8301 §3.1
		return errors.New("rsa-sha1 is not accepted")
	}
	if err := checkSignatureTags(t); err != nil {
		return err
	}
	if _, err := t.base64Tag("bh"); err != nil {
		return err
	}
	if i, ok := t["i"]; ok {
		_, domain, at := cutLast(i, "@")
		if !at || !within(domain, t["d"]) {
			return errors.New("i= is not below d=")
		}
	}
	names := colonList(strings.ToLower(t["h"]))
	switch {
	case len(names) == 0 || len(names) > maxSignedNames || slices.Contains(names, ""):
		return errors.New("bad h=")
	case !slices.Contains(names, "from"):
		return errors.New("the From field is not signed")
	}
	if q, ok := t["q"]; ok && !slices.Contains(colonList(strings.ToLower(q)), "dns/txt") {
		return errors.New("unknown way to ask for the key")
	}
	if _, err := formOf(t); err != nil {
		return err
	}
	x, has, err := t.number("x")
	if err != nil {
		return err
	}
	if made, ok, _ := t.number("t"); has && ok && x <= made {
		return errors.New("expires before it was made")
	}
	return nil
}

// within says whether a domain is another or below it.
func within(domain, parent string) bool {
	domain, parent = strings.ToLower(domain), strings.ToLower(parent)
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}

// wantDKIM says what checking the signatures will need.
func (v *verifier) wantDKIM(list []*signature) {
	for _, s := range list {
		if s.err == nil {
			v.want(s.tags)
			v.ask(s.tags)
		}
	}
}

// dkim checks the signatures. bodyErr is why the body could not be read.
func (v *verifier) dkim(list []*signature, bodyErr error) []DKIM {
	var out []DKIM
	for _, s := range list {
		err := s.err
		s.Result = PermError
		if err == nil && bodyErr != nil {
			err = bodyErr
		}
		if err == nil {
			s.Result, err = v.check(s)
		}
		if err != nil {
			s.Reason = note(err)
			if errors.Is(err, errTemporary) {
				s.Result, s.Reason = TempError, "DNS trouble"
			}
		}
		out = append(out, s.DKIM)
	}
	return out
}

// check verifies a well-formed signature. An error that is not temporary says
// why the result is no pass.
func (v *verifier) check(s *signature) (string, error) {
	t := s.tags
	if x, has, _ := t.number("x"); has && v.now.Unix() > x {
		return PermError, errors.New("expired")
	}
	key, err := v.key(t)
	if err != nil {
		return PermError, err
	}
	s.Testing = key.test
	if k, ok := key.key.(*rsa.PublicKey); ok {
		s.Bits = k.N.BitLen()
		s.Weak = s.Bits < strongRSABits
	}
	// RFC 6376 §3.6.1: t=s wants i= to be of the very domain.
	if _, domain, ok := cutLast(t["i"], "@"); ok && key.strict && !strings.EqualFold(domain, t["d"]) {
		return PermError, errors.New("the key is not for subdomains")
	}
	form, err := formOf(t)
	if err != nil {
		return PermError, err
	}
	want, err := t.base64Tag("bh")
	if err != nil {
		return PermError, err
	}
	if !bytes.Equal(want, v.sums[form]) {
		return Fail, errors.New("body hash does not match")
	}
	names := colonList(strings.ToLower(t["h"]))
	digest, err := v.digest(t, names, s.raw)
	if err != nil {
		return PermError, err
	}
	if err := v.signature(t, digest); err != nil {
		if errors.Is(err, errAlgorithm) {
			return PermError, err
		}
		return Fail, err
	}
	return v.covers(s, form, names)
}

// covers looks at what a good signature leaves out. RFC 8601 §2.7.1: "policy" is
// a signature that verifies and is not accepted all the same.
func (v *verifier) covers(s *signature, form bodyForm, names []string) (string, error) {
	if rest := v.bodies[form].total - form.limit; form.limit != noLimit && rest > 0 {
		s.Partial = true
		return Policy, fmt.Errorf("%d bytes of the body are not signed", rest)
	}
	signed := 0
	for _, n := range names {
		if n == "from" {
			signed++
		}
	}
	// RFC 6376 §8.15: the signature is over the last From; readers show the first.
	if len(v.fields.named("from")) > signed {
		return Policy, errors.New("a From that is not signed was added")
	}
	return Pass, nil
}
