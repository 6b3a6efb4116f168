package hop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"mailward/internal/dns"
	"mailward/internal/testenv"
)

// world is a DNS server with zone in it, two mail servers on one port, and a
// Sender that knows no other.
type world struct {
	dns      *testenv.DNSServer
	one, two *testenv.Hop // on 127.0.0.1 and 127.0.0.2
	cfg      Config
}

func newWorld(t *testing.T, zone string) *world {
	t.Helper()
	w := &world{dns: testenv.DNS(t, zone), one: testenv.NextHop(t)}
	_, port, _ := net.SplitHostPort(w.one.Addr)
	w.two = testenv.NextHopAt(t, "127.0.0.2:"+port)
	r, err := dns.New(dns.Config{Servers: []string{w.dns.Addr}, NoCache: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = Config{DNS: r, AllowPrivate: true, Port: port}
	return w
}

func (w *world) port() string { return w.cfg.Port }

const twoServers = `
example.org. 300 IN MX 20 mx2.example.org.
example.org. 300 IN MX 10 mx1.example.org.
mx1.example.org. 300 IN A 127.0.0.1
mx2.example.org. 300 IN A 127.0.0.2
`

func TestDirect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, zone string
		change     func(w *world)
		one, two   int  // mails
		code       int  // -1: temporary trouble of ours
		touched    bool // somebody was connected to
	}{
		{"the preferred", twoServers, nil, 1, 0, 0, true},
		{"the other", twoServers, func(w *world) { w.one.Close() }, 0, 1, 0, true},
		{"implicit MX", "example.org. 300 IN A 127.0.0.2\n", nil, 0, 1, 0, true},
		{"null MX", "example.org. 300 IN MX 0 .\nexample.org. 300 IN A 127.0.0.1\n", nil, 0, 0, 556, false},
		{"no such domain", "other.org. 300 IN A 127.0.0.1\n", nil, 0, 0, 550, false},
		{"we are the best", "example.org. 300 IN MX 10 MX.ours.example.\n" + strings.ReplaceAll(twoServers, "MX 10", "MX 11"), nil, 0, 0, 554, false},
		{"we are as good as another", strings.ReplaceAll(twoServers, "MX 20 mx2.example.org", "MX 10 mx.ours.example"), nil, 0, 0, 554, false},
		{"one is better than us", "example.org. 300 IN MX 15 mx.ours.example.\n" + twoServers, func(w *world) { w.one.Close() }, 0, 0, -1, false},
		{"private addresses", twoServers, func(w *world) { w.cfg.AllowPrivate = false }, 0, 0, -1, false},
		{"MX of no use", "example.org. 300 IN MX 1 127.0.0.1.\nexample.org. 300 IN MX 2 mx2.example.org.\nmx2.example.org. 300 IN A 127.0.0.2\n", nil, 0, 1, 0, true},
		{"one does not exist, the other is down", strings.ReplaceAll(twoServers, "mx1.example.org. 300 IN A 127.0.0.1", ""), func(w *world) { w.two.Close() }, 0, 0, -1, false},
		{"MX in doubt", twoServers, func(w *world) { w.dns.Fail("example.org.", testenv.DNSServFail) }, 0, 0, -1, false},
		{"one family in doubt", twoServers, func(w *world) { w.dns.Fail("AAAA mx1.example.org.", testenv.DNSServFail) }, 1, 0, 0, true},
		{"addresses in doubt", twoServers, func(w *world) { w.dns.Fail("mx1.example.org.", testenv.DNSServFail) }, 0, 1, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.zone)
			if c.change != nil {
				c.change(w)
			}
			res := sender(t, w.cfg).Send(context.Background(), "mx:Example.ORG", bob())
			var no *Reply
			code := 0
			if errors.As(res.Err, &no) {
				code = no.Code
				if !errors.Is(res.Err, ErrNoRoute) {
					t.Error("our own refusal is not marked as such")
				}
			} else if res.Err != nil {
				code = -1
				if !errors.Is(res.Err, ErrConnect) {
					t.Errorf("%v is no temporary trouble", res.Err)
				}
			}
			if code != c.code || len(w.one.Messages()) != c.one || len(w.two.Messages()) != c.two {
				t.Errorf("%+v: %d and %d mails", res, len(w.one.Messages()), len(w.two.Messages()))
			}
			if n := w.one.Connections() + w.two.Connections(); !c.touched && n > 0 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestDirect_IsBounded(t *testing.T) {
	t.Parallel()
	var zone strings.Builder
	for i := range 9 {
		fmt.Fprintf(&zone, "example.org. 300 IN MX %d mx%d.example.org.\n", i, i)
		for j := range 4 {
			fmt.Fprintf(&zone, "mx%d.example.org. 300 IN A 127.0.%d.%d\n", i, i+1, j+1)
		}
	}
	w := newWorld(t, zone.String())
	s := sender(t, w.cfg)
	hosts, addrs := map[string]bool{}, 0
	for ep, err := range s.endpoints(context.Background(), "mx:example.org") {
		if err != nil {
			t.Fatal(err)
		}
		addrs++
		hosts[ep.demand.name] = true
	}
	if addrs != addressesMost || len(hosts) > hostsMost {
		t.Errorf("%d addresses of %d hosts", addrs, len(hosts))
	}
}

func TestIsPublic(t *testing.T) {
	t.Parallel()
	for a, want := range map[string]bool{
		"8.8.8.8": true, "2600::1": true, "127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false, "198.18.0.1": false,
		"::": false, "::1": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "::ffff:10.0.0.1": false, "::ffff:8.8.8.8": true, "64:ff9b::a00:1": false, "2002:a00:1::": false,
	} {
		if got := isPublic(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}

func TestDANE(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	good, leaf := ca.issue(t, time.Hour, "mx1.example.org")
	domainOnly, _ := ca.issue(t, time.Hour, "example.org")
	otherName, _ := ca.issue(t, time.Hour, "other.org")
	expired, old := ca.issue(t, -time.Minute, "whatever.org")
	zone := "example.org. 300 IN MX 10 mx1.example.org.\nmx1.example.org. 300 IN A 127.0.0.1\n"
	tlsa := func(usage, selector, matching uint8, cert ...string) string {
		data := ""
		switch {
		case len(cert) > 0:
			data = cert[0]
		case usage == daneTA:
			data, _ = miekg.CertificateToDANE(selector, matching, ca.cert)
		default:
			data, _ = miekg.CertificateToDANE(selector, matching, leaf)
		}
		return fmt.Sprintf("%d %d %d %s", usage, selector, matching, data)
	}
	oldTLSA, _ := miekg.CertificateToDANE(1, 1, old)
	for _, c := range []struct {
		name    string
		records []string
		offer   string // good, domain, other, expired, ""
		signed  bool
		how     string // with what, "none": without TLS; "fail": no mail
	}{
		{"EE", []string{tlsa(3, 1, 1)}, "good", true, "dane"},
		{"EE, whole certificate", []string{tlsa(3, 0, 0)}, "good", true, "dane"},
		{"EE, SHA-512", []string{tlsa(3, 0, 2)}, "good", true, "dane"},
		{"EE, second record", []string{tlsa(3, 1, 1, strings.Repeat("ab", 32)), tlsa(3, 1, 1)}, "good", true, "dane"},
		{"EE, expired and of another name", []string{tlsa(3, 1, 1, oldTLSA)}, "expired", true, "dane"},
		{"EE, other key", []string{tlsa(3, 1, 1, strings.Repeat("ab", 32))}, "good", true, "fail"},
		{"EE, no STARTTLS", []string{tlsa(3, 1, 1)}, "", true, "fail"},
		{"TA", []string{tlsa(2, 0, 1)}, "good", true, "dane"},
		{"TA, whole certificate", []string{tlsa(2, 0, 0)}, "good", true, "dane"},
		{"TA, name of the domain", []string{tlsa(2, 1, 1)}, "domain", true, "dane"},
		{"TA, other name", []string{tlsa(2, 0, 1)}, "other", true, "fail"},
		{"TA, expired", []string{tlsa(2, 0, 1)}, "expired", true, "fail"},
		{"PKIX usages mean nothing: TLS with anybody", []string{tlsa(1, 1, 1, strings.Repeat("ab", 32))}, "other", true, ""},
		{"digest of the wrong length", []string{tlsa(3, 1, 1, "abcd")}, "other", true, ""},
		{"unusable, no STARTTLS", []string{tlsa(0, 1, 1, strings.Repeat("ab", 32))}, "", true, "fail"},
		{"not signed", []string{tlsa(3, 1, 1, strings.Repeat("ab", 32))}, "", false, "none"},
		{"no records", nil, "", true, "none"},
		{"in doubt", []string{"SERVFAIL"}, "good", true, "fail"},
		{"address in doubt", []string{tlsa(3, 1, 1), "AAAA SERVFAIL"}, "", true, "fail"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, zone)
			at := "_" + w.port() + "._tcp.mx1.example.org."
			all := zone
			for _, r := range c.records {
				switch r {
				case "SERVFAIL":
					w.dns.Fail(at, testenv.DNSServFail)
				case "AAAA SERVFAIL":
					w.dns.Fail("AAAA mx1.example.org.", testenv.DNSServFail)
				default:
					all += at + " 300 IN TLSA " + r + "\n"
				}
			}
			w.dns.SetZone(t, all)
			w.dns.SetAD(c.signed)
			w.one.TLS(map[string]*tlsConfig{"good": good, "domain": domainOnly, "other": otherName, "expired": expired}[c.offer])
			res := sender(t, w.cfg).Send(context.Background(), "mx:example.org", bob())
			switch c.how {
			case "fail":
				if !errors.Is(res.Err, ErrConnect) || len(w.one.Messages()) > 0 {
					t.Errorf("%+v", res)
				}
			case "none":
				if res.Err != nil || res.TLS != "" {
					t.Errorf("%+v", res)
				}
			default:
				if res.Err != nil || res.TLS == "" || res.Verified != c.how {
					t.Errorf("%+v", res)
				}
			}
		})
	}
}

// signedTLSA is a resolver whose TLSA records are signed, and nothing else.
type signedTLSA struct{}

func (signedTLSA) LookupTXT(context.Context, string) ([]string, error) { return nil, nil }

func (signedTLSA) Secure(_ context.Context, name string, qtype uint16) ([]miekg.RR, bool, error) {
	text := name + ". 300 IN A 127.0.0.1"
	if qtype == miekg.TypeTLSA {
		text = name + ". 300 IN TLSA 3 1 1 " + strings.Repeat("ab", 32)
	}
	rr, err := miekg.NewRR(text)
	return []miekg.RR{rr}, qtype == miekg.TypeTLSA, err
}

// TestDANE_WholeChain: signed TLSA records of a server that an unsigned MX or
// address has named prove nothing (RFC 7672 §2.2.1).
func TestDANE_WholeChain(t *testing.T) {
	t.Parallel()
	s := &settings{Config: Config{DNS: signedTLSA{}, AllowPrivate: true}.withDefaults()}
	for _, mxSigned := range []bool{true, false} {
		at, err := s.locate(context.Background(), "mx1.example.org", mxSigned)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := s.demandOf(context.Background(), "example.org", at, nil); err != nil || d.dane != nil || d.mode != TLSMay {
			t.Errorf("%+v %v", d, err)
		}
	}
	if d, err := s.demandOf(context.Background(), "example.org", place{host: "mx1.example.org", end: "mx1.example.org", secure: true}, nil); err != nil || d.dane == nil {
		t.Errorf("all signed: %+v %v", d, err)
	}
}

// stsServer serves policies for mta-sts.example.org.
func stsServer(t *testing.T, w *world, ca *authority, handle http.HandlerFunc) {
	t.Helper()
	cert, _ := ca.issue(t, time.Hour, "mta-sts.example.org")
	srv := httptest.NewUnstartedServer(handle)
	srv.TLS = cert
	srv.StartTLS()
	t.Cleanup(srv.Close)
	w.cfg.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: &tlsConfig{RootCAs: ca.pool()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, srv.Listener.Addr().String())
		}}}
	w.cfg.Direct.Roots = ca.pool()
}

func TestMTASTS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	good, _ := ca.issue(t, time.Hour, "mx1.example.org")
	bad, _ := newAuthority(t).issue(t, time.Hour, "mx1.example.org")
	const record = "_mta-sts.example.org. 300 IN TXT \"v=STSv1; id=1;\"\n"
	policy := func(mode, mx string) string {
		return "version: STSv1\r\nmode: " + mode + "\r\nmx: " + mx + "\r\nmax_age: 86400\r\n"
	}
	enforce := policy("enforce", "*.example.org")
	for _, c := range []struct {
		name, record, policy string
		kind                 string
		status               int
		offer                *tlsConfig
		how                  string
	}{
		{"enforce", record, enforce, "text/plain", 200, good, "pkix"},
		{"enforce, other authority", record, enforce, "text/plain", 200, bad, "fail"},
		{"enforce, no STARTTLS", record, enforce, "text/plain; charset=utf-8", 200, nil, "fail"},
		{"enforce, other server", record, policy("enforce", "mx.other.org"), "text/plain", 200, good, "fail"},
		{"testing", record, policy("testing", "mx.other.org"), "text/plain", 200, nil, "none"},
		{"none", record, policy("none", "x"), "text/plain", 200, nil, "none"},
		{"no record", "", enforce, "text/plain", 200, nil, "none"},
		{"two records", record + strings.Replace(record, "id=1", "id=2", 1), enforce, "text/plain", 200, nil, "none"},
		{"redirect", record, enforce, "text/plain", 302, nil, "none"},
		{"not found", record, enforce, "text/plain", 404, nil, "none"},
		{"HTML", record, enforce, "text/html", 200, nil, "none"},
		{"too long", record, enforce + strings.Repeat("x: y\r\n", 20_000), "text/plain", 200, nil, "none"},
		{"nonsense", record, "hello", "text/plain", 200, nil, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "example.org. 300 IN MX 10 mx1.example.org.\nmx1.example.org. 300 IN A 127.0.0.1\n"+c.record)
			stsServer(t, w, ca, func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", c.kind)
				if r.URL.Path == "/elsewhere" {
					fmt.Fprint(rw, c.policy)
					return
				}
				if r.URL.Path != stsPolicyAt || r.Host != "mta-sts.example.org" {
					t.Errorf("asked for %s%s", r.Host, r.URL.Path)
				}
				rw.Header().Set("Location", "/elsewhere")
				rw.WriteHeader(c.status)
				fmt.Fprint(rw, c.policy)
			})
			w.one.TLS(c.offer)
			res := sender(t, w.cfg).Send(context.Background(), "mx:example.org", bob())
			switch c.how {
			case "fail":
				if !errors.Is(res.Err, ErrConnect) || len(w.one.Messages()) > 0 {
					t.Errorf("%+v", res)
				}
			case "none":
				if res.Err != nil || res.TLS != "" {
					t.Errorf("%+v", res)
				}
			default:
				if res.Err != nil || res.Verified != c.how {
					t.Errorf("%+v", res)
				}
			}
		})
	}
}

// TestMTASTS_Remembered: a policy holds for its time, also when the record or
// the file is gone, and a new id brings a new one.
func TestMTASTS_Remembered(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	const mx = "example.org. 300 IN MX 10 mx1.example.org.\nmx1.example.org. 300 IN A 127.0.0.1\n"
	w := newWorld(t, mx+"_mta-sts.example.org. 300 IN TXT \"v=STSv1; id=1\"\n")
	var fetches, broken atomic.Int32
	mode := "enforce"
	stsServer(t, w, ca, func(rw http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		if broken.Load() > 0 {
			rw.WriteHeader(500)
			return
		}
		rw.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(rw, "version: STSv1\nmode: %s\nmx: mx1.example.org\nmax_age: 600\n", mode)
	})
	s := sender(t, w.cfg)
	step := func(what string, delivered bool, asked int32) {
		t.Helper()
		res := s.Send(context.Background(), "mx:example.org", bob())
		if (res.Err == nil) != delivered || fetches.Load() != asked {
			t.Errorf("%s: %v after %d fetches, want %d", what, res.Err, fetches.Load(), asked)
		}
	}
	step("first", false, 1)
	step("kept", false, 1)
	w.dns.SetZone(t, mx)
	step("the record is gone", false, 1)
	w.dns.SetZone(t, mx+"_mta-sts.example.org. 300 IN TXT \"v=STSv1; id=2\"\n")
	broken.Store(1)
	step("the new file is broken", false, 2)
	step("and not fetched again at once", false, 2)
	broken.Store(0)
	mode = "none"
	s.policies.entry("example.org").again = time.Time{}
	step("the new policy", true, 3)
	e := s.policies.entry("example.org")
	e.policy, e.until = &stsPolicy{mode: stsEnforce}, time.Now().Add(-time.Second)
	w.dns.SetZone(t, mx)
	step("out of date", true, 3)
}

func TestParseSTS(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1\n":                                           "enforce [a.example] 1s",
		"max_age: 31557600\r\nmx: *.A.example.\r\nmx:b.example\r\nmode:testing\r\nnew: field\r\nversion:STSv1": "testing [*.a.example b.example] 8766h0m0s",
		"version: STSv1\nmode: none\nmax_age: 60":                                                              "none [] 1m0s",
		"version: STSv1\nmode: none\nmode: enforce\nmax_age: 60\nmax_age: 1\nmx: a.b":                          "none [a.b] 1m0s",
		"version: STSv2\nmode: none\nmax_age: 60":                                                              "",
		"version: STSv1\nmode: enforce\nmax_age: 60":                                                           "",
		"version: STSv1\nmode: sometimes\nmx: a\nmax_age: 60":                                                  "",
		"version: STSv1\nmode: enforce\nmx: a\nmax_age: 31557601":                                              "",
		"version: STSv1\nmode: enforce\nmx: a\nmax_age: -1":                                                    "",
		"version: STSv1\nmode: enforce\nmx: a\nmax_age: 60\nnonsense":                                          "",
		"": "",
	} {
		p, err := parseSTS([]byte(text))
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %v %s", p.mode, p.mx, p.maxAge)
		}
		if got != want {
			t.Errorf("%q: %q %v, want %q", text, got, err, want)
		}
	}
	p := &stsPolicy{mx: []string{"mail.example.org", "*.example.net", "*."}}
	for host, want := range map[string]bool{"mail.example.org": true, "a.example.net": true, "a.b.example.net": false, "example.net": false, "x": false, "": false, "*.example.net": true} {
		if p.allows(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

func FuzzSTSPolicy(f *testing.F) {
	f.Add([]byte("version: STSv1\nmode: enforce\nmx: *.a.example\nmax_age: 1\n"), "v=STSv1; id=1", "b.a.example")
	f.Fuzz(func(t *testing.T, b []byte, txt, host string) {
		if id, ok := parseSTSRecord([]string{txt}); ok && (id == "" || len(id) > 32 || !strings.HasPrefix(txt, "v=STSv1")) {
			t.Errorf("%q gave %q", txt, id)
		}
		p, err := parseSTS(b)
		if err != nil {
			return
		}
		if p.maxAge < 0 || p.maxAge > stsAgeMost*time.Second || len(p.mx) > stsMXMost || p.mode != "none" && len(p.mx) == 0 {
			t.Errorf("%+v", p)
		}
		if p.allows(host) && !strings.Contains(strings.ToLower(string(b)), host[strings.IndexByte(host, '.')+1:]) {
			t.Errorf("%q is allowed by %q", host, b)
		}
	})
}

func FuzzTLSA(f *testing.F) {
	ca := newAuthority(f)
	_, leaf := ca.issue(f, time.Hour, "mx1.example.org")
	data, _ := miekg.CertificateToDANE(1, 1, leaf)
	f.Add(uint8(3), uint8(1), uint8(1), data)
	f.Add(uint8(2), uint8(0), uint8(0), "3000")
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data string) {
		d := newDANE([]miekg.RR{&miekg.TLSA{Usage: usage, Selector: selector, MatchingType: matching, Certificate: data}}, "mx1.example.org")
		how, err := d.check([]*certificate{leaf, ca.cert})
		if len(d.records) == 0 {
			if how != "" || err != nil {
				t.Errorf("%q %v", how, err)
			}
			return
		}
		want := leaf
		if usage == daneTA {
			want = ca.cert
		}
		match, _ := miekg.CertificateToDANE(selector, matching, want)
		if direct, _ := miekg.CertificateToDANE(selector, matching, leaf); (how == "dane") != (strings.EqualFold(match, data) || strings.EqualFold(direct, data)) {
			t.Errorf("%d %d %d %q: %q %v", usage, selector, matching, data, how, err)
		}
	})
}

// TestDirect_TakesWishes: who asks for reports of success is told by us only
// where the server reached does not promise to (RFC 3461 §5.2.1), and of a
// server out in the world nothing is known beforehand.
func TestDirect_TakesWishes(t *testing.T) {
	t.Parallel()
	for _, offers := range []bool{false, true} {
		w := newWorld(t, twoServers)
		if offers {
			w.one.Features("PIPELINING", "DSN")
		}
		res := sender(t, w.cfg).Send(context.Background(), "mx:example.org", bob())
		if res.Err != nil || res.DSN != offers {
			t.Errorf("offered: %v, %+v", offers, res)
		}
	}
}
