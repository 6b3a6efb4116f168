package hop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of MTA-STS (RFC 8461).
const (
	stsFetch    = 10 * time.Second // one policy over HTTPS
	stsBytes    = 64 << 10         // of a policy (§3.3)
	stsAgain    = 5 * time.Minute  // after a fetch that failed (§3.3)
	stsAgeMost  = 31557600         // seconds (§3.2)
	stsCached   = 10_000           // domains
	stsMXMost   = 200              // patterns of a policy
	stsEnforce  = "enforce"        // §5: only to these servers, with a certificate that is good
	stsPolicyAt = "/.well-known/mta-sts.txt"
)

// stsPolicy is what a domain wants of those who send to it (RFC 8461 §3.2).
type stsPolicy struct {
	mode   string // enforce, testing, none
	mx     []string
	maxAge time.Duration
}

// parseSTS reads a policy file. Of a field that stands there twice, the first
// counts; fields that nobody knows do not.
func parseSTS(b []byte) (*stsPolicy, error) {
	p := &stsPolicy{}
	seen := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok {
			if key != "" {
				return nil, errors.New("MTA-STS policy: a line that is no field")
			}
			continue
		}
		if key == "mx" {
			if p.mx = append(p.mx, strings.ToLower(strings.TrimSuffix(value, "."))); len(p.mx) > stsMXMost {
				return nil, errors.New("MTA-STS policy: too many servers")
			}
		} else if _, twice := seen[key]; !twice {
			seen[key] = value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("MTA-STS policy: %w", err)
	}
	age, err := strconv.ParseUint(seen["max_age"], 10, 32)
	switch p.mode = seen["mode"]; {
	case seen["version"] != "STSv1":
		return nil, errors.New("MTA-STS policy: not of version STSv1")
	case err != nil || age > stsAgeMost:
		return nil, errors.New("MTA-STS policy: max_age is missing or out of range")
	case p.mode != stsEnforce && p.mode != "testing" && p.mode != "none":
		return nil, errors.New("MTA-STS policy: no such mode")
	case p.mode != "none" && len(p.mx) == 0:
		return nil, errors.New("MTA-STS policy: names no server")
	}
	p.maxAge = time.Duration(age) * time.Second
	return p, nil
}

// allows says whether a host is one of the policy's servers (RFC 8461 §4.1): a
// star stands for one label.
func (p *stsPolicy) allows(host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	for _, pattern := range p.mx {
		if rest, star := strings.CutPrefix(pattern, "*."); star && rest == parent && rest != "" || pattern == host {
			return true
		}
	}
	return false
}

// parseSTSRecord finds the id of the policy in force (RFC 8461 §3.1). There must
// be one record, or there is no policy.
func parseSTSRecord(txts []string) (id string, ok bool) {
	found := 0
	for _, t := range txts {
		version, rest, _ := strings.Cut(t, ";")
		if strings.TrimRight(version, " \t") != "v=STSv1" {
			continue
		}
		found++
		for field := range strings.SplitSeq(rest, ";") {
			if key, value, _ := strings.Cut(strings.TrimSpace(field), "="); key == "id" && id == "" {
				id = value
			}
		}
	}
	valid := id != "" && len(id) <= 32 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	return id, found == 1 && valid
}

// stsCache keeps the policies of domains for as long as they say.
type stsCache struct {
	mu      sync.Mutex // guards domains
	domains map[string]*stsEntry
}

type stsEntry struct {
	mu     sync.Mutex // guards all below; held while the policy is fetched
	policy *stsPolicy // nil: none yet
	id     string
	until  time.Time
	again  time.Time // no fetch before
}

func (c *stsCache) entry(domain string) *stsEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.domains[domain]
	if e == nil {
		if c.domains == nil {
			c.domains = map[string]*stsEntry{}
		}
		for some := range c.domains {
			if len(c.domains) < stsCached {
				break
			}
			delete(c.domains, some)
		}
		e = &stsEntry{}
		c.domains[domain] = e
	}
	return e
}

// find gives the policy in force for a domain, or nil. A policy that was found
// once holds for its time, whatever becomes of the record or the file (RFC 8461
// §3.3 and §10.2): else whoever can break either would switch it off.
func (c *stsCache) find(ctx context.Context, s *settings, domain string) *stsPolicy {
	txts, err := s.DNS.LookupTXT(ctx, "_mta-sts."+domain)
	id, published := parseSTSRecord(txts)
	if err != nil || !published {
		id = ""
	}
	c.mu.Lock()
	_, known := c.domains[domain]
	c.mu.Unlock()
	var kept *keptPolicy
	if !known {
		kept = s.keptSTS(ctx, domain)
	}
	if id == "" && !known && kept == nil {
		return nil
	}
	e := c.entry(domain)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.policy == nil && kept != nil {
		e.policy, e.id, e.until = &stsPolicy{mode: kept.Mode, mx: kept.MX}, kept.ID, kept.Until
	}
	now := time.Now()
	if id != "" && (id != e.id || now.After(e.until)) && now.After(e.again) {
		if fresh, err := s.fetchSTS(ctx, domain); err == nil {
			e.policy, e.id, e.until = fresh, id, now.Add(fresh.maxAge)
			s.keepSTS(ctx, domain, e)
		} else {
			e.again = now.Add(stsAgain)
		}
	}
	if now.After(e.until) {
		return nil
	}
	return e.policy
}

// fetchSTS gets a policy (RFC 8461 §3.3): over HTTPS with a good certificate, no
// redirects, text/plain.
func (s *settings) fetchSTS(ctx context.Context, domain string) (*stsPolicy, error) {
	ctx, cancel := context.WithTimeout(ctx, stsFetch)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+stsPolicyAt, nil)
	if err != nil {
		return nil, fmt.Errorf("MTA-STS policy of %s: %w", domain, err)
	}
	resp, err := s.httpClient().Do(req)
	if err != nil {
		return nil, fmt.Errorf("MTA-STS policy of %s: %w", domain, err)
	}
	defer resp.Body.Close()
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || err != nil || kind != "text/plain" {
		return nil, fmt.Errorf("MTA-STS policy of %s: status %d, type %q", domain, resp.StatusCode, kind)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, stsBytes+1))
	if err != nil {
		return nil, fmt.Errorf("MTA-STS policy of %s: %w", domain, err)
	}
	if len(b) > stsBytes {
		return nil, fmt.Errorf("MTA-STS policy of %s is too long", domain)
	}
	return parseSTS(b)
}

// httpClient follows no redirect, whoever made it.
func (s *settings) httpClient() *http.Client {
	c := http.Client{Transport: &http.Transport{
		DialContext: s.dialPublic, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.Direct.Roots},
	}}
	if s.HTTP != nil {
		c = *s.HTTP
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// dialPublic connects to a host of the world by the same rules as to a mail
// server.
func (s *settings) dialPublic(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	at, err := s.locate(ctx, host, false)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	for _, a := range at.addrs[:min(len(at.addrs), 2)] {
		var c net.Conn
		if c, err = d.DialContext(ctx, network, net.JoinHostPort(a.String(), port)); err == nil {
			return c, nil
		}
	}
	return nil, err
}
