package mailauth

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

const (
	// maxInstances is RFC 8617 §4.2.1's bound; a longer chain fails (§5.2).
	maxInstances = 50
	// maxKeys bounds the questions for keys that one mail may cause. A long chain
	// has few sealers: a mail passes the same ones again.
	maxKeys = maxSignatures + 20
)

// RFC 8617 §4.4 knows the results none, pass and fail. Temperror is ours: DNS
// gave no answer, so the chain is neither good nor bad.

// ARC is what the chain of those who passed a mail on says (RFC 8617). It says
// who saw which results, not that they can be believed: that is for the list of
// trusted sealers.
type ARC struct {
	Result     string   `json:"result"` // none, pass, fail, temperror
	Instances  int      `json:"instances,omitempty"`
	Sealers    []string `json:"sealers,omitempty"`     // d= of each seal, newest last
	OldestPass int      `json:"oldest_pass,omitempty"` // RFC 8617 §5.2 step 5; 0: the mail is unchanged since the first
	Reason     string   `json:"reason,omitempty"`
	Seen       []Seen   `json:"seen,omitempty"` // what each sealer of a valid chain saw, oldest first
	AAR        []string `json:"-"`              // bodies of a valid chain's ARC-Authentication-Results, after "i=N;", oldest first
}

// Names of the three fields of a set, as splitFields writes them.
const (
	nameAAR = "arc-authentication-results"
	nameAMS = "arc-message-signature"
	nameAS  = "arc-seal"
)

// arcSet is the three fields that one sealer added.
type arcSet struct {
	aar, ams, seal          []byte // as they came
	results                 string
	amsTags, sealTags       tags
	hasAAR, hasAMS, hasSeal bool
}

// chain is the sets of a mail, sets[0] being i=1. Where the structure is bad,
// err says so, and highest is the highest instance that could be read.
type chain struct {
	sets    []arcSet
	highest int
	failed  bool // the newest seal says cv=fail
	err     error
}

// readChain collects the sets and checks what can be seen without keys
// (RFC 8617 §5.2 steps 1 to 3). Fields may stand in any order.
func readChain(f *fields) chain {
	var c chain
	if n := len(f.named(nameAAR)) + len(f.named(nameAMS)) + len(f.named(nameAS)); n > 3*maxInstances {
		return chain{highest: maxInstances, err: errors.New("more than 50 sets")}
	}
	sets := make([]arcSet, maxInstances)
	for _, fd := range f.list {
		n, err := sortField(sets, fd)
		if err != nil && c.err == nil {
			c.err = err
		}
		c.highest = max(c.highest, n)
	}
	c.sets = sets[:c.highest]
	if c.err != nil || c.highest == 0 {
		return c
	}
	// RFC 8617 §5.2 step 2: a chain that failed once stays failed.
	if newest := c.sets[c.highest-1]; newest.hasSeal && strings.EqualFold(newest.sealTags["cv"], Fail) {
		c.failed, c.err = true, errors.New("the newest seal says cv=fail")
		return c
	}
	for i := range c.sets {
		if err := c.sets[i].check(i + 1); err != nil {
			c.err = fmt.Errorf("i=%d: %w", i+1, err)
			return c
		}
	}
	return c
}

// sortField puts an ARC field into its set.
func sortField(sets []arcSet, fd field) (int, error) {
	if fd.name != nameAAR && fd.name != nameAMS && fd.name != nameAS {
		return 0, nil
	}
	value := string(trimCRLF(fd.raw))
	value = value[strings.IndexByte(value, ':')+1:]
	if fd.name == nameAAR {
		n, rest, ok := resultsInstance(value)
		if !ok {
			return 0, errors.New("ARC-Authentication-Results without a good i=")
		}
		s := &sets[n-1]
		if s.hasAAR {
			return n, fmt.Errorf("i=%d: two ARC-Authentication-Results", n)
		}
		s.hasAAR, s.aar, s.results = true, fd.raw, rest
		return n, nil
	}
	t, err := parseTags(value)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", fd.name, err)
	}
	n, err := instance(t["i"])
	if err != nil {
		return 0, fmt.Errorf("%s without a good i=", fd.name)
	}
	s := &sets[n-1]
	if fd.name == nameAMS {
		if s.hasAMS {
			return n, fmt.Errorf("i=%d: two ARC-Message-Signature", n)
		}
		s.hasAMS, s.ams, s.amsTags = true, fd.raw, t
		return n, nil
	}
	if s.hasSeal {
		return n, fmt.Errorf("i=%d: two ARC-Seal", n)
	}
	s.hasSeal, s.seal, s.sealTags = true, fd.raw, t
	return n, nil
}

// check holds one set to its form.
func (s *arcSet) check(i int) error {
	switch {
	case !s.hasAAR:
		return errors.New("no ARC-Authentication-Results")
	case !s.hasAMS:
		return errors.New("no ARC-Message-Signature")
	case !s.hasSeal:
		return errors.New("no ARC-Seal")
	}
	want := Pass
	if i == 1 {
		want = None
	}
	if !strings.EqualFold(s.sealTags["cv"], want) {
		return fmt.Errorf("cv= is not %s", want)
	}
	// RFC 8617 §4.1.3: what a seal covers is fixed, h= makes it invalid.
	if _, has := s.sealTags["h"]; has {
		return errors.New("ARC-Seal with h=")
	}
	if err := checkSignatureTags(s.sealTags); err != nil {
		return fmt.Errorf("ARC-Seal: %w", err)
	}
	if err := checkSignatureTags(s.amsTags); err != nil {
		return fmt.Errorf("ARC-Message-Signature: %w", err)
	}
	return nil
}

// checkSignatureTags checks what a message signature and a seal share.
func checkSignatureTags(t tags) error {
	if a := strings.ToLower(t["a"]); a != algRSA && a != algEd25519 {
		return errors.New("unknown algorithm")
	}
	if !dnsName(t["d"]) || !strings.Contains(t["d"], ".") {
		return errors.New("bad d=")
	}
	if !dnsName(t["s"]) || len(t["s"])+len("._domainkey.")+len(t["d"]) > 253 {
		return errors.New("bad s=")
	}
	if _, _, err := t.number("t"); err != nil {
		return err
	}
	_, err := t.base64Tag("b")
	return err
}

// wantARC says what checking the chain will need. Only the newest signature's
// key is asked for before it is known that the mail is unchanged.
func (v *verifier) wantARC(c chain) {
	if c.err != nil || c.highest == 0 {
		return
	}
	for _, s := range c.sets {
		// One with l= is not accepted: each length would be a hash of its own.
		if _, has := s.amsTags["l"]; !has {
			v.want(s.amsTags)
		}
	}
	v.ask(c.sets[len(c.sets)-1].amsTags)
}

// arc checks the chain of a mail (RFC 8617 §5.2). What costs least and fails most
// comes first, so that a hostile header is done with quickly. bodyErr is why the
// body could not be read.
func (v *verifier) arc(c chain, bodyErr error) ARC {
	res := ARC{Result: None, Instances: c.highest}
	if c.highest == 0 && c.err == nil {
		return res
	}
	for _, s := range c.sets {
		res.Sealers = append(res.Sealers, safeName(s.sealTags["d"]))
	}
	if c.err != nil {
		return res.end(c.err)
	}
	if bodyErr != nil {
		return res.end(bodyErr)
	}
	newest := len(c.sets)
	// Step 4: the newest message signature must hold, or the mail was changed.
	if err := v.message(c.sets[newest-1]); err != nil {
		return res.end(fmt.Errorf("i=%d: ARC-Message-Signature: %w", newest, err))
	}
	// Step 6: each seal.
	for _, s := range c.sets {
		v.ask(s.sealTags)
	}
	for i := newest; i >= 1; i-- {
		if err := v.seal(c.sets[:i]); err != nil {
			return res.end(fmt.Errorf("i=%d: ARC-Seal: %w", i, err))
		}
	}
	// Step 5, last as it decides nothing: how long the mail is unchanged.
	for i := newest - 1; i >= 1; i-- {
		if v.message(c.sets[i-1]) != nil {
			res.OldestPass = i + 1
			break
		}
	}
	for i, s := range c.sets {
		res.AAR = append(res.AAR, s.results)
		res.Seen = append(res.Seen, seen(i+1, res.Sealers[i], s.results))
	}
	res.Result = Pass
	return res
}

// end closes a result that is no pass.
func (a ARC) end(err error) ARC {
	a.Result = Fail
	if errors.Is(err, errTemporary) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		a.Result = TempError
	}
	a.Reason = note(err)
	return a
}

// note is an error as a short text without anything that could end a comment
// or a line: parts of it come from the mail.
func note(err error) string {
	s := strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || strings.ContainsRune(`()"\`, r) {
			return '_'
		}
		return r
	}, err.Error())
	return s[:min(len(s), 200)]
}
