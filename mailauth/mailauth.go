// Package mailauth finds out who sent a mail: SPF (RFC 7208) says whether the
// client may send for the envelope's domain, DKIM (RFC 6376) whether a domain
// signed these bytes.
//
// On a mail's path it runs beside the scan. What it finds goes into our
// Authentication-Results line (RFC 8601) and the record; it decides nothing
// yet. DNS is asked through one cached resolver with a budget per mail: trouble
// there is "temperror", never a pass, and never holds a mail up for long.
package mailauth

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-msgauth/dkim"

	"mailward/internal/message"
)

// Limits of the work on one mail.
const (
	budget        = 3 * time.Second
	maxSignatures = 5
)

// Resolver is what the checks need of DNS.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Checker checks senders.
type Checker struct{ dns Resolver }

// New returns a Checker that asks r.
func New(r Resolver) *Checker { return &Checker{dns: r} }

// Check asks about one mail. It ends within its budget, whatever DNS does.
func (c *Checker) Check(ctx context.Context, env message.Envelope, sp *message.Spool) Result {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var wg sync.WaitGroup
	r := Result{DMARC: DMARC{Result: None}, ARC: ARC{Result: None}}
	wg.Go(func() { r.SPF = c.spf(ctx, env) })
	wg.Go(func() { r.DKIM = c.dkim(ctx, sp) })
	wg.Wait()
	return r.finish()
}

// spf checks the envelope sender, or the HELO name for the null sender (RFC 7208 §2.4).
func (c *Checker) spf(ctx context.Context, env message.Envelope) SPF {
	if !env.ClientIP.IsValid() {
		return SPF{Result: None}
	}
	res, err := spf.CheckHostWithSender(net.IP(env.ClientIP.AsSlice()), env.Helo, env.From, spf.WithContext(ctx), spf.WithResolver(c.dns))
	r := SPF{Result: string(res), Identity: "mailfrom"}
	if _, d, ok := cutLast(env.From, "@"); ok {
		r.Domain = safe(d)
	} else {
		r.Identity, r.Domain = "helo", safe(env.Helo)
	}
	if err != nil {
		r.Reason = note(err)
	}
	return r
}

// dkim verifies the signatures over the bytes as they came.
func (c *Checker) dkim(ctx context.Context, sp *message.Spool) (list []DKIM) {
	head, err := sp.Header(64 << 10)
	if err != nil || !strings.Contains(strings.ToLower(string(head)), "dkim-signature:") {
		return nil
	}
	lookup := func(name string) ([]string, error) { return c.dns.LookupTXT(ctx, name) }
	body := &stopReader{ctx: ctx, r: sp.NewReader()}
	v, err := dkim.VerifyWithOptions(body, &dkim.VerifyOptions{LookupTXT: lookup, MaxVerifications: maxSignatures})
	if err != nil && len(v) == 0 {
		if ctx.Err() != nil {
			return []DKIM{{Result: TempError, Reason: note(err)}}
		}
		return []DKIM{{Result: PermError, Reason: note(err)}}
	}
	for _, v := range v {
		d := DKIM{Result: dkimValue(ctx, v.Err), Domain: safe(v.Domain)}
		if v.Err != nil {
			d.Reason = note(v.Err)
		}
		list = append(list, d)
	}
	return list
}

func dkimValue(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return Pass
	case ctx.Err() != nil, dkim.IsTempFail(err):
		return TempError
	case dkim.IsPermFail(err):
		return PermError
	default:
		return Fail
	}
}

// stopReader ends a reading when the time is over.
type stopReader struct {
	ctx context.Context
	r   io.Reader
}

func (s *stopReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, errors.Join(errors.New("mailauth: no time left"), err)
	}
	return s.r.Read(p)
}

func cutLast(s, sep string) (string, string, bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// safe makes foreign text fit for a header line.
func safe(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= 0x20 || r > 0x7e || strings.ContainsRune(`;()"\`, r) {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}
