package mailauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Signer puts our own signatures on mail: DKIM for the domains we send for, and
// ARC seals on what we pass on (arc_seal.go).
//
// On a mail's path it works in the gateway, after the decision and before the
// relay. It reads the body once; the keys' state is looked up in the background
// by [Signer.Run], never while a mail waits.
type Signer struct {
	keys atomic.Pointer[keySet]
	warn warned
}

// warned keeps a warning from being written for each mail.
type warned struct{ at atomic.Int64 }

const warnEvery = 5 * time.Minute

func (w *warned) now(t time.Time) bool {
	last := w.at.Load()
	return t.UnixNano()-last > int64(warnEvery) && w.at.CompareAndSwap(last, t.UnixNano())
}

// Names of the fields a signature covers, in the order of h=.
type coverage struct {
	name   string
	always bool // also where the mail has none: nobody can add one later
}

// covered is what a reader sees or a program acts on (RFC 6376 §5.4.1). Fields
// that are there are named once more than they occur, so that none can be added
// (§8.15). A list may add its List fields to a mail without any.
func covered() []coverage {
	return []coverage{
		{"From", true}, {"To", true}, {"Cc", true}, {"Subject", true}, {"Date", true}, {"Message-ID", true}, {"Reply-To", true},
		{"Sender", false}, {"In-Reply-To", false}, {"References", false},
		{"MIME-Version", true}, {"Content-Type", true}, {"Content-Transfer-Encoding", true},
		{"Content-Disposition", false}, {"Content-ID", false}, {"Content-Description", false},
		{"Resent-From", false}, {"Resent-To", false}, {"Resent-Cc", false}, {"Resent-Date", false}, {"Resent-Message-ID", false},
		{"List-Id", false}, {"List-Help", false}, {"List-Unsubscribe", false}, {"List-Unsubscribe-Post", false},
		{"List-Subscribe", false}, {"List-Post", false}, {"List-Owner", false}, {"List-Archive", false},
	}
}

// NewSigner reads the keys in files and refuses what cannot work. It asks
// neither DNS nor OpenBao: call Refresh once before the first mail, and Run.
func NewSigner(cfg SignConfig) (*Signer, error) {
	s := &Signer{}
	return s, s.Reload(cfg)
}

// Reload takes other keys into use, all or, on an error, none. What DNS said of
// a key that stays is kept.
func (s *Signer) Reload(cfg SignConfig) error {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	next, err := readFiles(cfg)
	if err != nil {
		return err
	}
	if old := s.keys.Load(); old != nil {
		next.takeTransit(old)
		next.remember(old)
	}
	s.keys.Store(next)
	return nil
}

// takeTransit keeps the versions that OpenBao told before, so that a reload
// does not leave mail unsigned until the next refresh.
func (s *keySet) takeTransit(old *keySet) {
	take := func(r, o *ring, d DomainKeys) {
		if o == nil || o.domain != r.domain {
			return
		}
		for _, c := range d.Keys {
			if !strings.HasPrefix(c.Source, "bao:") {
				continue
			}
			for _, k := range o.keys {
				if k.source == c.Source && strings.HasPrefix(k.selector, c.Selector+"v") {
					r.keys = append(r.keys, k)
				}
			}
		}
		byAge(r.keys)
	}
	for _, d := range s.cfg.Domains {
		name := strings.ToLower(d.Domain)
		take(s.domains[name], old.domains[name], d)
	}
	if s.seal != nil {
		take(s.seal, old.seal, *s.cfg.Seal)
	}
}

// Refresh asks OpenBao for its keys and DNS for what is published.
func (s *Signer) Refresh(ctx context.Context) {
	old := s.keys.Load()
	next := old.refreshed(ctx)
	// A reload meanwhile wins; the next refresh looks its keys up.
	if !s.keys.CompareAndSwap(old, next) {
		return
	}
	for _, r := range next.all() {
		if r.err != nil {
			next.cfg.Log.Warn("signing keys", "domain", r.domain, "err", r.err)
		}
	}
}

// Run refreshes until ctx ends.
func (s *Signer) Run(ctx context.Context) error {
	t := time.NewTicker(refreshEvery)
	defer t.Stop()
	for {
		s.Refresh(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Status lists all keys, with what is to be published for them.
func (s *Signer) Status(context.Context) []KeyStatus {
	set := s.keys.Load()
	now := set.cfg.Now()
	var out []KeyStatus
	for _, d := range set.cfg.Domains {
		out = append(out, set.domains[strings.ToLower(d.Domain)].status("dkim", now)...)
	}
	if set.seal != nil {
		out = append(out, set.seal.status("arc", now)...)
	}
	return out
}

// ring finds the keys for a From domain: its own, else its nearest parent's,
// which DMARC takes as aligned unless the domain asks for strict alignment.
func (s *keySet) ring(fromDomain string) *ring {
	name := strings.TrimSuffix(strings.ToLower(fromDomain), ".")
	for {
		if r := s.domains[name]; r != nil {
			return r
		}
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return nil
		}
		name = parent
	}
}

// DKIM returns the DKIM-Signature fields for a mail from fromDomain (an
// A-label), to be put on top of it: one for each algorithm there is a key of.
// head is what we put on top of the mail ourselves. It returns nothing where we
// have no key for the domain, or the mail has a signature of that domain over
// this very body already.
//
// An error means that the mail should be signed and cannot be now: it must not
// go out unsigned, where its domain may ask receivers to reject it.
func (s *Signer) DKIM(ctx context.Context, fromDomain string, head, header []byte, body func() io.Reader) ([]byte, error) {
	set := s.keys.Load()
	r := set.ring(fromDomain)
	if r == nil {
		return nil, nil
	}
	now := set.cfg.Now()
	keys, sure := r.active(now)
	if len(keys) == 0 {
		return nil, fmt.Errorf("sign for %s: no key can be used now: %w", r.domain, errors.Join(r.err, errTemporary))
	}
	if !sure && s.warn.now(now) {
		set.cfg.Log.Warn("no signing key is known as published, the oldest is used", "domain", r.domain, "selector", keys[0].selector)
	}
	f := splitFields(head, header)
	bh := newBodyHash(true)
	if err := hashBody(ctx, body(), bh); err != nil {
		return nil, fmt.Errorf("sign for %s: %w", r.domain, err)
	}
	bodySum := base64.StdEncoding.EncodeToString(bh.sum())
	if f.signedBy(r.domain, bodySum, now) {
		return nil, nil
	}
	names := signedNames(f)
	signed := f.pick(lower(names), nil)
	var out []byte
	for _, k := range keys {
		field := signatureField("DKIM-Signature", []string{
			"v=1", "a=" + k.alg, "c=relaxed/relaxed", "d=" + k.domain, "s=" + k.selector,
			"t=" + strconv.FormatInt(now.Unix(), 10), "h=" + strings.Join(names, ":"), "bh=" + bodySum,
		})
		full, err := k.complete(ctx, field, signed)
		if err != nil {
			return nil, err
		}
		out = append(out, full...)
	}
	return out, nil
}

// signedBy says whether the mail has a signature of domain that looks good: all
// tags there, not expired, and made over this body. A signature that the body
// has outlived does not keep us from signing. (A signature over a simple body
// is believed: hashing the mail a second time would only save one field.)
func (f *fields) signedBy(domain, bodySum string, now time.Time) bool {
	for _, at := range f.named("dkim-signature") {
		_, value, _ := strings.Cut(string(f.list[at].raw), ":")
		t, err := parseTags(strings.TrimRight(value, fws))
		if err != nil || t["v"] != "1" || !strings.EqualFold(t["d"], domain) || checkSignatureTags(t) != nil {
			continue
		}
		_, canon, err := canonOf(t)
		x, expires, xerr := t.number("x")
		_, partly := t["l"]
		switch {
		case err != nil || xerr != nil || partly || expires && now.Unix() > x:
		case !slices.Contains(colonList(strings.ToLower(t["h"])), "from"):
		case canon == "simple" && t["bh"] != "", stripFWS(t["bh"]) == bodySum:
			return true
		}
	}
	return false
}

// signedNames is h= for this mail.
func signedNames(f *fields) []string {
	var names []string
	all := covered()
	for _, c := range all {
		names = append(names, strings.ToLower(c.name))
	}
	f.index(names...)
	names = names[:0]
	for _, c := range all {
		n := len(f.named(strings.ToLower(c.name)))
		if n == 0 && !c.always {
			continue
		}
		// A mail of thousands of one field would make a longer line than a mail
		// may have; what is not named is not covered.
		for range min(n, 10) + 1 {
			names = append(names, c.name)
		}
	}
	return names
}

// complete signs: field is the signature's own field up to "b=".
func (k *signKey) complete(ctx context.Context, field string, signed []field) ([]byte, error) {
	sig, err := k.sign(ctx, hashFields(relaxedHeader, signed, []byte(field)))
	if err != nil {
		return nil, fmt.Errorf("sign with selector %s of %s: %w", k.selector, k.domain, err)
	}
	var b strings.Builder
	b.WriteString(field)
	foldInto(&b, base64.StdEncoding.EncodeToString(sig))
	b.WriteString("\r\n")
	return []byte(b.String()), nil
}

// lineLength is RFC 5322 §2.1.1's wish.
const lineLength = 76

// signatureField writes a field of tags, folded, up to an empty b= at its end.
func signatureField(name string, tags []string) string {
	var b strings.Builder
	b.WriteString(name + ":")
	col := b.Len()
	for _, t := range append(tags, "b=") {
		// h= is folded at its colons, all others are short or have their own line.
		for i, part := range strings.SplitAfter(t, ":") {
			if col+len(part)+2 > lineLength {
				b.WriteString("\r\n\t")
				col = 1
			} else if i == 0 {
				b.WriteByte(' ')
				col++
			}
			b.WriteString(part)
			col += len(part)
		}
		if t != "b=" {
			b.WriteByte(';')
			col++
		}
	}
	return b.String()
}

// foldInto writes base64 in lines of its own.
func foldInto(b *strings.Builder, s string) {
	for len(s) > 0 {
		n := min(len(s), lineLength-4)
		b.WriteString("\r\n\t" + s[:n])
		s = s[n:]
	}
}

func lower(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(n)
	}
	return out
}
