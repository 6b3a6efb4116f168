package hop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"mailward/internal/testenv"
)

type (
	tlsConfig   = tls.Config
	certificate = x509.Certificate
)

// authority signs certificates of tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate for names, valid for so long; the chain has the
// authority's too.
func (a *authority) issue(t testing.TB, valid time.Duration, names ...string) (*tls.Config, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(valid), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}}}, leaf
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	good, leaf := ca.issue(t, time.Hour, "exchange.example", "127.0.0.1")
	expired, _ := ca.issue(t, -time.Minute, "exchange.example", "127.0.0.1")
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	cert, key := sha256.Sum256(leaf.Raw), sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	for _, c := range []struct {
		name   string
		offer  *tls.Config
		route  Route
		tls    bool
		how    string
		failed bool
	}{
		{"none", good, Route{TLS: TLSNone}, false, "", false},
		{"loopback", good, Route{}, false, "", false},
		{"may", good, Route{TLS: TLSMay}, true, "", false},
		{"may, not offered", nil, Route{TLS: TLSMay}, false, "", false},
		{"may, broken", old, Route{TLS: TLSMay}, false, "", false},
		{"may, expired", expired, Route{TLS: TLSMay}, true, "", false},
		{"require", good, Route{TLS: TLSRequire}, true, "", false},
		{"require, not offered", nil, Route{TLS: TLSRequire}, false, "", true},
		{"require, broken", old, Route{TLS: TLSRequire}, false, "", true},
		{"verify", good, Route{TLS: TLSVerify, Roots: ca.pool()}, true, "pkix", false},
		{"verify, named", good, Route{TLS: TLSVerify, Roots: ca.pool(), ServerName: "exchange.example"}, true, "pkix", false},
		{"verify, other name", good, Route{TLS: TLSVerify, Roots: ca.pool(), ServerName: "other.example"}, false, "", true},
		{"verify, other authority", good, Route{TLS: TLSVerify, Roots: other.pool()}, false, "", true},
		{"verify, system", good, Route{TLS: TLSVerify}, false, "", true},
		{"verify, expired", expired, Route{TLS: TLSVerify, Roots: ca.pool()}, false, "", true},
		{"verify, not offered", nil, Route{TLS: TLSVerify, Roots: ca.pool()}, false, "", true},
		{"fingerprint", good, Route{TLS: TLSVerify, Fingerprints: [][32]byte{{1}, cert}}, true, "fingerprint", false},
		{"fingerprint of the key", good, Route{TLS: TLSVerify, Fingerprints: [][32]byte{key}, ServerName: "other.example"}, true, "fingerprint", false},
		{"other fingerprint", good, Route{TLS: TLSVerify, Fingerprints: [][32]byte{{1}}}, false, "", true},
		{"fingerprint or authority", good, Route{TLS: TLSVerify, Fingerprints: [][32]byte{{1}}, Roots: ca.pool()}, true, "pkix", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := testenv.NextHop(t)
			h.TLS(c.offer)
			c.route.Hosts = []Host{{Address: h.Addr}}
			s := sender(t, Config{Routes: map[string]Route{"r": c.route}})
			for range 2 { // the second has a session to resume
				res := s.Send(context.Background(), "r", bob())
				if (res.Err != nil) != c.failed || strings.HasPrefix(res.TLS, "TLS 1.3 TLS_") != c.tls || res.Verified != c.how {
					t.Fatalf("%+v", res)
				}
				if c.failed && !errors.Is(res.Err, ErrConnect) {
					t.Errorf("%v is no temporary trouble", res.Err)
				}
				s.mu.Lock()
				for _, pe := range s.peers {
					pe.close()
				}
				clear(s.peers)
				s.mu.Unlock()
			}
			if n := len(h.Messages()); c.failed != (n == 0) {
				t.Errorf("%d mails went out", n)
			}
			if c.tls {
				if hello := strings.Count(strings.Join(h.Commands(), "\n"), "EHLO"); hello != 4 {
					t.Errorf("%d EHLO, want one before and one after STARTTLS", hello)
				}
			}
		})
	}
}

// TestTLS_Injection: replies that somebody has put below the TLS to come are
// not heard in it (the mirror of CVE-2011-0411).
func TestTLS_Injection(t *testing.T) {
	t.Parallel()
	good, _ := newAuthority(t).issue(t, time.Hour, "127.0.0.1")
	h := testenv.NextHop(t)
	h.TLS(good)
	h.Say("STARTTLS", "220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n")
	s := sender(t, Config{Routes: map[string]Route{"must": {Hosts: []Host{{Address: h.Addr}}, TLS: TLSRequire}, "may": {Hosts: []Host{{Address: h.Addr}}, TLS: TLSMay}}})
	if res := s.Send(context.Background(), "must", bob()); !errors.Is(res.Err, errUnasked) || !errors.Is(res.Err, ErrConnect) {
		t.Errorf("%+v", res)
	}
	if res := s.Send(context.Background(), "may", bob()); res.Err != nil || res.TLS != "" {
		t.Errorf("%+v", res)
	}
	h.Say("STARTTLS", "454 4.7.0 not now\r\n")
	before := h.Connections()
	if res := s.Send(context.Background(), "may", bob()); res.Err != nil || h.Connections() > before {
		t.Errorf("454: %+v", res)
	}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	good, _ := newAuthority(t).issue(t, time.Hour, "127.0.0.1")
	login := func(mechanism string) *Auth {
		return &Auth{User: "gate", Password: "pa=ss,wörd", Mechanism: mechanism}
	}
	clear := login("")
	clear.Clear = true
	wrong := login("")
	wrong.Password = "other"
	for _, c := range []struct {
		name    string
		auth    *Auth
		offered string
		tls     TLSMode
		says    string // for AUTH
		used    string // "": no mail
	}{
		{"the best", login(""), "LOGIN PLAIN SCRAM-SHA-256", TLSRequire, "", "AUTH SCRAM-SHA-256 "},
		{"plain", login(""), "LOGIN PLAIN", TLSRequire, "", "AUTH PLAIN "},
		{"login", login(""), "XOAUTH2 LOGIN", TLSRequire, "", "AUTH LOGIN"},
		{"named", login("LOGIN"), "LOGIN PLAIN", TLSRequire, "", "AUTH LOGIN"},
		{"named, not offered", login("SCRAM-SHA-256"), "LOGIN PLAIN", TLSRequire, "", ""},
		{"wrong password, SCRAM", wrong, "SCRAM-SHA-256", TLSRequire, "", ""},
		{"wrong password, PLAIN", wrong, "PLAIN", TLSRequire, "", ""},
		{"SCRAM without proof", login("SCRAM-SHA-256"), "SCRAM-SHA-256", TLSRequire, "235 2.7.0 fine\r\n", ""},
		{"in clear", login(""), "PLAIN", TLSNone, "", ""},
		{"in clear, allowed", clear, "PLAIN", TLSNone, "", "AUTH PLAIN "},
		{"asked without end", login("LOGIN"), "LOGIN", TLSRequire, strings.Repeat("334 eA==\r\n", 20), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := testenv.NextHop(t)
			h.TLS(good)
			h.Login("gate", "pa=ss,wörd", strings.Fields(c.offered)...)
			if c.says != "" {
				h.Say("AUTH", c.says)
			}
			s := sender(t, Config{Routes: map[string]Route{"r": {Hosts: []Host{{Address: h.Addr}}, TLS: c.tls, Auth: c.auth}}})
			res := s.Send(context.Background(), "r", bob())
			if (res.Err == nil) != (c.used != "") {
				t.Fatalf("%+v", res)
			}
			if res.Err != nil && (!errors.Is(res.Err, ErrConnect) || strings.Contains(res.Err.Error(), "wörd")) {
				t.Errorf("%v", res.Err)
			}
			all := strings.Join(h.Commands(), "\n")
			if c.used != "" && !strings.Contains(all, c.used) || c.name == "in clear" && strings.Contains(all, "AUTH") {
				t.Errorf("%s", all)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	good, leaf := ca.issue(t, time.Hour, "127.0.0.1")
	one, two := testenv.NextHop(t), testenv.NextHop(t)
	one.TLS(good)
	two.Close()
	s := sender(t, Config{Routes: map[string]Route{"r": {Hosts: []Host{{one.Addr, 1}, {two.Addr, 2}}, TLS: TLSVerify, Roots: ca.pool()}}})
	list, err := s.Check(context.Background(), "r")
	if err != nil || len(list) != 2 || !list[0].Expires.Equal(leaf.NotAfter) || list[0].Verified != "pkix" || list[1].Err == nil {
		t.Fatalf("%+v %v", list, err)
	}
	if text := list[0].String(); !strings.Contains(text, "PIPELINING") || !strings.Contains(text, "certificate until "+leaf.NotAfter.UTC().Format(time.DateOnly)) {
		t.Error(text)
	}
	one.Close()
	if _, err := s.Check(context.Background(), "r"); !errors.Is(err, ErrConnect) {
		t.Error(err)
	}
}
