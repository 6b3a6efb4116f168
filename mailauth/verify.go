package mailauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// verifier checks all signatures of one mail, DKIM's and the ARC chain's: each
// key is asked for once, and the body is read once.
type verifier struct {
	ctx     context.Context // of the questions
	reading context.Context // of the body
	dns     Resolver
	fields  *fields
	now     time.Time

	asking sync.WaitGroup
	keys   map[string]*keyAnswer // used by one goroutine; the answers arrive in others
	bodies map[bodyForm]*bodyHash
	sums   map[bodyForm][]byte
}

// keyAnswer is a key that was asked for.
type keyAnswer struct {
	done chan struct{} // closed once the rest is set
	key  publicKey
	err  error
}

// bodyForm is a way to hash a body.
type bodyForm struct {
	relaxed bool
	limit   int64 // l=, or noLimit
}

func newVerifier(ctx context.Context, dns Resolver, f *fields, now time.Time) *verifier {
	return &verifier{ctx: ctx, reading: ctx, dns: dns, fields: f, now: now, keys: map[string]*keyAnswer{}, bodies: map[bodyForm]*bodyHash{}, sums: map[bodyForm][]byte{}}
}

// close waits for what was asked: all of it ends with the context.
func (v *verifier) close() { v.asking.Wait() }

// ask begins to look for a signature's key, each name once and maxKeys in all.
func (v *verifier) ask(t tags) *keyAnswer {
	name := strings.ToLower(t["s"] + "._domainkey." + t["d"])
	if a, ok := v.keys[name]; ok {
		return a
	}
	if len(v.keys) >= maxKeys {
		a := &keyAnswer{done: make(chan struct{}), err: errors.New("too many keys in one mail")}
		close(a.done)
		return a
	}
	a := &keyAnswer{done: make(chan struct{})}
	v.keys[name] = a
	v.asking.Go(func() {
		defer close(a.done)
		a.key, a.err = lookupKey(v.ctx, v.dns, t["d"], t["s"])
	})
	return a
}

// key waits for a signature's key.
func (v *verifier) key(t tags) (publicKey, error) {
	a := v.ask(t)
	<-a.done
	return a.key, a.err
}

// formOf reads c= and l= (RFC 6376 §3.5).
func formOf(t tags) (bodyForm, error) {
	_, body, err := canonOf(t)
	form := bodyForm{relaxed: body == "relaxed", limit: noLimit}
	if l, ok := t["l"]; ok && err == nil {
		if form.limit, err = strconv.ParseInt(l, 10, 64); err != nil || form.limit < 0 || l[0] < '0' {
			return form, errors.New("l= is no length")
		}
	}
	return form, err
}

// want has the body hashed for a signature.
func (v *verifier) want(t tags) {
	form, err := formOf(t)
	if err != nil || v.bodies[form] != nil {
		return // an error shows when that signature is checked
	}
	v.bodies[form] = newBodyHash(form.relaxed)
	v.bodies[form].limit = form.limit
}

// readBody hashes the body for all that want it.
func (v *verifier) readBody(body func() io.Reader) error {
	if len(v.bodies) == 0 {
		return nil
	}
	all := make([]*bodyHash, 0, len(v.bodies))
	for _, h := range v.bodies {
		all = append(all, h)
	}
	if err := hashBody(v.reading, body(), all...); err != nil {
		// The mail could not be read: our trouble, not the signer's.
		return fmt.Errorf("%w: %w", errTemporary, err)
	}
	for form, h := range v.bodies {
		v.sums[form] = h.sum()
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

// digest hashes the fields that a signature names, and its own.
func (v *verifier) digest(t tags, names []string, own []byte) ([]byte, error) {
	header, _, err := canonOf(t)
	if err != nil {
		return nil, err
	}
	canon := simpleHeader
	if header == "relaxed" {
		canon = relaxedHeader
	}
	return hashFields(canon, v.fields.pick(names, own), own), nil
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
