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
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-msgauth/authres"
	"github.com/emersion/go-msgauth/dkim"

	"mailward/internal/message"
)

// Limits of the work on one mail.
const (
	budget        = 3 * time.Second
	maxSignatures = 5
)

// Result is what is known about the sender.
type Result struct {
	Header string          // the results, as they follow the authserv-id; "" is "none"
	JSON   json.RawMessage // for the record
}

// Check is one method's result, for the record.
type Check struct {
	Method string `json:"method"` // spf, dkim
	Result string `json:"result"`
	Domain string `json:"domain,omitempty"`
	Reason string `json:"reason,omitempty"`
}

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
	var spfResult authres.Result
	var spfCheck Check
	var dkimResults []authres.Result
	var dkimChecks []Check
	wg.Go(func() { spfResult, spfCheck = c.spf(ctx, env) })
	wg.Go(func() { dkimResults, dkimChecks = c.dkim(ctx, sp) })
	wg.Wait()
	results, checks := append([]authres.Result{spfResult}, dkimResults...), append([]Check{spfCheck}, dkimChecks...)
	j, err := json.Marshal(checks)
	if err != nil {
		j = nil
	}
	// authres puts the identity first; the gateway writes that itself.
	_, header, _ := strings.Cut(authres.Format("x", results), ";")
	return Result{Header: strings.TrimSpace(header), JSON: j}
}

// spf checks the envelope sender, or the HELO name for the null sender (RFC 7208 §2.4).
func (c *Checker) spf(ctx context.Context, env message.Envelope) (authres.Result, Check) {
	if !env.ClientIP.IsValid() {
		return &authres.SPFResult{Value: authres.ResultNone}, Check{Method: "spf", Result: "none"}
	}
	res, err := spf.CheckHostWithSender(net.IP(env.ClientIP.AsSlice()), env.Helo, env.From, spf.WithContext(ctx), spf.WithResolver(c.dns))
	r := &authres.SPFResult{Value: authres.ResultValue(res)}
	ch := Check{Method: "spf", Result: string(res)}
	if _, d, ok := cutLast(env.From, "@"); ok {
		r.From, ch.Domain = safe(d), safe(d)
	} else {
		r.Helo, ch.Domain = safe(env.Helo), safe(env.Helo)
	}
	if err != nil {
		ch.Reason = safe(err.Error())
	}
	return r, ch
}

// dkim verifies the signatures over the bytes as they came.
func (c *Checker) dkim(ctx context.Context, sp *message.Spool) (results []authres.Result, checks []Check) {
	head, err := sp.Header(64 << 10)
	if err != nil || !strings.Contains(strings.ToLower(string(head)), "dkim-signature:") {
		return []authres.Result{&authres.DKIMResult{Value: authres.ResultNone}}, []Check{{Method: "dkim", Result: "none"}}
	}
	type verified struct {
		v   []*dkim.Verification
		err error
	}
	done := make(chan verified, 1)
	lookup := func(name string) ([]string, error) { return c.dns.LookupTXT(ctx, name) }
	// The library knows no context; a big mail is hashed to its end, but nobody waits.
	body := &stopReader{ctx: ctx, r: sp.NewReader()}
	go func() {
		v, err := dkim.VerifyWithOptions(body, &dkim.VerifyOptions{LookupTXT: lookup, MaxVerifications: maxSignatures})
		done <- verified{v, err}
	}()
	// The goroutine reads the spool, which is closed after we return, so it is
	// waited for; stopReader ends it when the budget does.
	got := <-done
	if got.err != nil && len(got.v) == 0 {
		value := authres.ResultValue(authres.ResultPermError)
		if ctx.Err() != nil {
			value = authres.ResultTempError
		}
		return []authres.Result{&authres.DKIMResult{Value: value}}, []Check{{Method: "dkim", Result: string(value), Reason: safe(got.err.Error())}}
	}
	for _, v := range got.v {
		value := dkimValue(ctx, v.Err)
		ch := Check{Method: "dkim", Result: string(value), Domain: safe(v.Domain)}
		if v.Err != nil {
			ch.Reason = safe(v.Err.Error())
		}
		results = append(results, &authres.DKIMResult{Value: value, Domain: safe(v.Domain), Identifier: safe(v.Identifier)})
		checks = append(checks, ch)
	}
	return results, checks
}

func dkimValue(ctx context.Context, err error) authres.ResultValue {
	switch {
	case err == nil:
		return authres.ResultPass
	case ctx.Err() != nil, dkim.IsTempFail(err):
		return authres.ResultTempError
	case dkim.IsPermFail(err):
		return authres.ResultPermError
	default:
		return authres.ResultFail
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
