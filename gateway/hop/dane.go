package hop

import (
	"crypto/x509"
	"encoding/hex"
	"strings"

	"github.com/miekg/dns"
)

// dane is what a domain has published, signed, about the certificate of a mail
// server (RFC 7672). Without usable records, TLS is still a must, with whomever
// (§2.2).
type dane struct {
	records []*dns.TLSA
	names   []string // one of them must be in a certificate that a trust anchor vouches for
}

const (
	daneTA = 2 // a trust anchor
	daneEE = 3 // the server's own certificate
	// tlsaMost bounds the records that are looked at.
	tlsaMost = 32
)

// newDANE keeps the records that mean something for SMTP (RFC 7672 §3.1.3:
// usages 0 and 1 do not).
func newDANE(rrs []dns.RR, names ...string) *dane {
	d := &dane{names: names}
	for _, rr := range rrs[:min(len(rrs), tlsaMost)] {
		if r, ok := rr.(*dns.TLSA); ok && isUsable(r) {
			d.records = append(d.records, r)
		}
	}
	return d
}

func isUsable(r *dns.TLSA) bool {
	b, err := hex.DecodeString(r.Certificate)
	if err != nil || r.Usage != daneTA && r.Usage != daneEE || r.Selector > 1 {
		return false
	}
	switch r.MatchingType {
	case 0:
		return len(b) > 0
	case 1:
		return len(b) == 32
	case 2:
		return len(b) == 64
	}
	return false
}

// check says whether one of the records fits the chain.
func (d *dane) check(chain []*x509.Certificate) (string, error) {
	if len(d.records) == 0 {
		return "", nil
	}
	for _, r := range d.records {
		if r.Usage == daneEE && matches(r, chain[0]) {
			return "dane", nil // §3.1.1: neither names nor dates count
		}
		if r.Usage == daneTA && d.anchored(r, chain) {
			return "dane", nil
		}
	}
	return "", errCertificate
}

// anchored says whether the chain leads to a trust anchor of the record, and to
// one of our names (§3.1.2).
func (d *dane) anchored(r *dns.TLSA, chain []*x509.Certificate) bool {
	anchors := x509.NewCertPool()
	found := false
	for _, c := range chain {
		if matches(r, c) {
			anchors.AddCert(c)
			found = true
		}
	}
	if r.Selector == 0 && r.MatchingType == 0 {
		// A whole certificate need not be sent.
		if b, err := hex.DecodeString(r.Certificate); err == nil {
			if c, err := x509.ParseCertificate(b); err == nil {
				anchors.AddCert(c)
				found = true
			}
		}
	}
	for _, name := range d.names {
		if found && verifyPKIX(chain, anchors, name) == nil {
			return true
		}
	}
	return false
}

func matches(r *dns.TLSA, c *x509.Certificate) bool {
	got, err := dns.CertificateToDANE(r.Selector, r.MatchingType, c)
	return err == nil && strings.EqualFold(got, r.Certificate)
}
