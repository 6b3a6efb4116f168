package hop

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// demand is what TLS with a host must be like.
type demand struct {
	mode  TLSMode
	name  string // for SNI, and the name in the certificate
	roots *x509.CertPool
	pins  [][sha256.Size]byte
	dane  *dane // takes the place of roots and pins (RFC 7672 §2.2)
}

var errCertificate = errors.New("the certificate is not the one that was asked for")

// secure does STARTTLS where the demand wants it (RFC 3207). Its failures are
// errTLS; with what, is for our log and never for the client.
func (c *conn) secure(ctx context.Context, s *settings, d demand) error {
	switch {
	case d.mode == TLSNone:
		return nil
	case !c.has("STARTTLS") && d.mode == TLSMay:
		return nil
	case !c.has("STARTTLS"):
		return fmt.Errorf("%w: it is not offered", errTLS)
	}
	c.command("STARTTLS")
	_, err := c.expect(ctx, 220)
	var no *Reply
	switch {
	case errors.As(err, &no) && no.Code != 421 && d.mode == TLSMay:
		return nil
	case err != nil:
		return fmt.Errorf("%w: STARTTLS: %w", errTLS, err)
	case c.r.Buffered() > 0:
		// Somebody has put replies below the TLS to come.
		return fmt.Errorf("%w: %w", errTLS, errUnasked)
	}
	c.within(ctx, c.limit)
	t := tls.Client(c.raw, d.config(s, &c.verified))
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", errTLS, err)
	}
	state := t.ConnectionState()
	c.Conn, c.tls = t, &state
	c.r.Reset(t)
	return nil
}

// config has Go's own check off: [demand.check] decides, also for sessions that
// are resumed.
func (d demand) config(s *settings, verified *string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         d.name,
		InsecureSkipVerify: true, //nolint:gosec // see VerifyConnection
		ClientSessionCache: s.sessions,
		VerifyConnection: func(cs tls.ConnectionState) (err error) {
			*verified, err = d.check(cs.PeerCertificates)
			return err
		},
	}
}

// check says how a chain of certificates meets the demand.
func (d demand) check(chain []*x509.Certificate) (how string, err error) {
	switch {
	case len(chain) == 0:
		return "", errCertificate
	case d.dane != nil:
		return d.dane.check(chain)
	case d.mode != TLSVerify:
		return "", nil
	}
	for _, pin := range d.pins {
		if pin == sha256.Sum256(chain[0].Raw) || pin == sha256.Sum256(chain[0].RawSubjectPublicKeyInfo) {
			return "fingerprint", nil
		}
	}
	if len(d.pins) > 0 && d.roots == nil {
		return "", errCertificate
	}
	if err := verifyPKIX(chain, d.roots, d.name); err != nil {
		return "", err
	}
	return "pkix", nil
}

func verifyPKIX(chain []*x509.Certificate, roots *x509.CertPool, name string) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name, CurrentTime: time.Now()})
	return err
}

func describeTLS(s *tls.ConnectionState) string {
	return tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite)
}
