package mailauth

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Seal returns the three ARC fields of the next instance (RFC 8617 §5.1), to be
// put on top of the mail as one piece, above head. arc is what verifying the
// mail said, authResults the value of our Authentication-Results with its
// authserv-id.
//
// Nothing is returned where sealing is off; where DNS gave no answer about the
// chain, since we may then say neither pass nor fail of it; where the chain has
// 50 sets, or was sealed as failed before; and where our key is known to be
// missing in DNS, since such a seal would break a good chain for all who follow.
func (s *Signer) Seal(ctx context.Context, arc ARC, authResults string, head, header []byte, body func() io.Reader) ([]byte, error) {
	set := s.keys.Load()
	if set.seal == nil || arc.Result == TempError || arc.Result == "" {
		return nil, nil
	}
	f := splitFields(head, header)
	c := readChain(f)
	if c.failed || c.highest >= maxInstances {
		return nil, nil
	}
	now := set.cfg.Now()
	keys, sure := set.seal.active(now)
	if len(keys) == 0 {
		return nil, fmt.Errorf("seal as %s: no key can be used now: %w", set.seal.domain, errTemporary)
	}
	// One seal a set: RSA, where there is one, as nearly all can check it.
	k := keys[0]
	if !sure && k.published == pubMissing {
		if s.warn.now(now) {
			set.cfg.Log.Warn("mail is not sealed: the key is not published", "domain", k.domain, "selector", k.selector)
		}
		return nil, nil
	}
	bh := newBodyHash(true)
	if err := hashBody(ctx, body(), bh); err != nil {
		return nil, fmt.Errorf("seal as %s: %w", k.domain, err)
	}
	names := slices.Concat(signedNames(f), slices.Repeat([]string{"DKIM-Signature"}, min(len(f.named("dkim-signature")), 20)))
	next := arcSet{aar: []byte(resultsField(c.highest+1, authResults))}
	i, at := "i="+strconv.Itoa(c.highest+1), "t="+strconv.FormatInt(now.Unix(), 10)
	var err error
	next.ams, err = k.complete(ctx, signatureField("ARC-Message-Signature", []string{
		i, "a=" + k.alg, "c=relaxed/relaxed", "d=" + k.domain, "s=" + k.selector, at,
		"h=" + strings.Join(names, ":"), "bh=" + base64.StdEncoding.EncodeToString(bh.sum()),
	}), f.pick(lower(names), nil))
	if err != nil {
		return nil, err
	}
	cv, covers := Pass, append(slices.Clone(c.sets), next)
	switch {
	case c.highest == 0 && c.err == nil:
		cv = None
	case c.err != nil || arc.Result != Pass:
		// RFC 8617 §5.1.2: a failed chain is sealed as if our set were the only one.
		cv, covers = Fail, []arcSet{next}
	}
	next.seal, err = k.complete(ctx, signatureField("ARC-Seal", []string{
		i, "a=" + k.alg, "cv=" + cv, "d=" + k.domain, "s=" + k.selector, at,
	}), sealed(covers))
	if err != nil {
		return nil, err
	}
	return slices.Concat(next.seal, next.ams, next.aar), nil
}

// resultsField writes ARC-Authentication-Results. The value is unfolded first:
// whatever it was made of, no line of it can become a field of its own.
func resultsField(i int, authResults string) string {
	var b strings.Builder
	b.WriteString("ARC-Authentication-Results: i=" + strconv.Itoa(i) + ";")
	col := b.Len()
	clean := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, authResults)
	for _, word := range strings.Fields(clean) {
		if col+1+len(word) > lineLength {
			b.WriteString("\r\n\t")
			col = 1
		} else {
			b.WriteByte(' ')
			col++
		}
		b.WriteString(word)
		col += len(word)
	}
	b.WriteString("\r\n")
	return b.String()
}
