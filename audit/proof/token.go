package proof

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"
)

var oidExtKeyUse = asn1.ObjectIdentifier{2, 5, 29, 37}

// CheckToken says whether a token is a good time stamp over a note, and whether
// its signer is one of those that roots vouch for (at the time of the stamp).
func CheckToken(token []byte, note string, roots *x509.CertPool) (at time.Time, trusted bool, err error) {
	ts, err := timestamp.Parse(token) // checks the signature with the certificate inside
	if err != nil {
		return at, false, fmt.Errorf("time stamp: %w", err)
	}
	sum := sha256.Sum256([]byte(note))
	if ts.HashAlgorithm != crypto.SHA256 || !bytes.Equal(ts.HashedMessage, sum[:]) {
		return at, false, errors.New("the time stamp is for something else")
	}
	p7, err := pkcs7.Parse(token)
	if err != nil {
		return at, false, fmt.Errorf("time stamp: %w", err)
	}
	signer := p7.GetOnlySigner()
	if signer == nil || !onlyTimeStamps(signer) {
		return at, false, errors.New("the time stamp is not signed by a certificate for time stamps")
	}
	var content struct {
		Version int
		Policy  asn1.ObjectIdentifier
	}
	if _, err := asn1.Unmarshal(p7.Content, &content); err != nil || content.Version != 1 {
		return at, false, errors.New("the time stamp holds no time")
	}
	if roots == nil {
		return ts.Time, false, nil
	}
	between := x509.NewCertPool()
	for _, cert := range p7.Certificates {
		between.AddCert(cert)
	}
	_, err = signer.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: ts.Time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}})
	if err != nil {
		return at, false, fmt.Errorf("the authority of the time stamp is not trusted: %w", err)
	}
	return ts.Time, true, nil
}

// onlyTimeStamps is RFC 3161 §2.3: the one use of the key, and critical.
func onlyTimeStamps(c *x509.Certificate) bool {
	if len(c.UnknownExtKeyUsage) > 0 || !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) {
		return false
	}
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidExtKeyUse) && e.Critical })
}
