// Package mailauth finds out who sent a mail: SPF (RFC 7208) says whether the
// client may send for the envelope's domain, DKIM (RFC 6376) whether a domain
// signed these bytes, DMARC (RFC 9989) whether that fits the author, and ARC (RFC 8617)
// what others saw before us. It also signs and seals what we send.
//
// On a mail's path it runs beside the scan. What it finds goes into our
// Authentication-Results line (RFC 8601), the record and package policy, which
// decides. DNS is asked through one cached resolver with a budget per mail: trouble
// there is "temperror", never a pass, and never holds a mail up for long.
package mailauth

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"mailward/internal/message"
)

// Limits of the work on one mail.
const (
	budget    = 3 * time.Second
	maxHeader = 1 << 20 // a mail with more is unscannable anyway
)

// Resolver is what the checks need of DNS.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Checker checks senders.
type Checker struct {
	dns Resolver
	now func() time.Time
}

// New returns a Checker that asks r.
func New(r Resolver) *Checker { return &Checker{dns: r, now: time.Now} }

// Check asks about one mail. It waits no longer than its budget, whatever DNS does.
func (c *Checker) Check(outer context.Context, env message.Envelope, sp *message.Spool) Result {
	ctx, cancel := context.WithTimeout(outer, budget)
	defer cancel()
	var r Result
	var wg sync.WaitGroup
	wg.Go(func() { r.SPF, r.HELO = c.checkSPF(ctx, env) })
	wg.Go(func() { r.IPRev = c.iprev(ctx, env.ClientIP) })
	header, err := sp.Header(maxHeader)
	if err != nil {
		r.DMARC = DMARC{Result: TempError, Reason: "the mail could not be read"}
		wg.Wait()
		return r.finish()
	}
	f := splitFields(header)
	r.From, r.FromProblem = authorDomain(f)
	v := newVerifier(ctx, c.dns, f, c.now())
	// What nobody waits for any more is not asked to its end.
	defer func() { cancel(); v.close() }()
	// A long body on a busy machine is no trouble of DNS: else a forger could make
	// one of it.
	v.reading = outer
	// The records are asked for while the body is hashed.
	dmarc := c.newAuthors(ctx, f, r.From)
	for _, d := range dmarc {
		wg.Go(d.discover)
	}
	list, unchecked := readSignatures(f, r.From)
	chain := readChain(f)
	v.wantDKIM(list)
	v.wantARC(chain)
	bodyErr := v.readBody(func() io.Reader {
		return io.NewSectionReader(sp.File(), int64(sp.HeaderLen()), sp.Size()-int64(sp.HeaderLen()))
	})
	r.DKIM, r.Unchecked = v.dkim(list, bodyErr), unchecked
	r.ARC = v.arc(chain, bodyErr)
	wg.Wait()
	r.DMARC = strictest(dmarc, &r)
	return r.finish()
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
	s = printable(s)
	return s[:min(len(s), 200)]
}

// safeName is safe for a domain name. It is never cut: what is left of a long
// name can be somebody else's, and names are compared. Longer than a name can
// be, it is none.
func safeName(s string) string {
	if len(s) > maxName {
		return ""
	}
	return printable(s)
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= 0x20 || r > 0x7e || strings.ContainsRune(`;()"\`, r) {
			return '_'
		}
		return r
	}, s)
}
