package pdf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/digitorus/pkcs7"
)

// Signer is who signs a report, and who says when.
type Signer struct {
	Cert  *x509.Certificate
	Chain []*x509.Certificate // above Cert
	Key   crypto.Signer
	Name  string
	// Stamp returns a token (RFC 3161) over data.
	Stamp func(ctx context.Context, data []byte) ([]byte, error)
}

// room is what is kept for the signature: certificates, and a token with a chain
// of its own.
const signatureRoom = 32 << 10

var (
	oidSigningCertV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	oidTimeStamp     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 14}

	rootOf = regexp.MustCompile(`/Root (\d+) 0 R`)
	infoOf = regexp.MustCompile(`/Info (\d+) 0 R`)
	sizeOf = regexp.MustCompile(`/Size (\d+)`)
)

// Sign adds a certification signature (ISO 32000-1 §12.8, SubFilter
// ETSI.CAdES.detached) with a time stamp to a report that [Render] wrote. The
// bytes that are there stay; the signature is an update behind them, and nothing
// may follow it.
func Sign(ctx context.Context, doc []byte, s Signer, at time.Time) ([]byte, error) {
	out, gap, err := placeholder(doc, s.Name, at)
	if err != nil {
		return nil, err
	}
	signed := append(bytes.Clone(out[:gap.start]), out[gap.end:]...)
	sig, err := s.cms(ctx, signed)
	if err != nil {
		return nil, err
	}
	if len(sig) > signatureRoom {
		return nil, fmt.Errorf("the signature of the report has %d bytes, there is room for %d", len(sig), signatureRoom)
	}
	hex.Encode(out[gap.start+1:], sig)
	return out, nil
}

// gap is the string of the signature, with its < and >.
type gap struct{ start, end int }

// placeholder writes the update with a signature that is still empty.
func placeholder(doc []byte, name string, at time.Time) ([]byte, gap, error) {
	trailer := doc[max(0, bytes.LastIndex(doc, []byte("trailer"))):]
	root, size, start := number(rootOf, trailer), number(sizeOf, trailer), startXref(trailer)
	catalog := object(doc, root)
	if root == 0 || size == 0 || start == 0 || catalog == "" || strings.Contains(catalog, "/AcroForm") {
		return nil, gap{}, errors.New("the report has no catalogue that can be signed")
	}
	sig, field := size, size+1
	var b bytes.Buffer
	b.Write(doc)
	if !bytes.HasSuffix(doc, []byte("\n")) {
		b.WriteByte('\n')
	}
	offsets := map[int]int{}
	begin := func(n int) { offsets[n] = b.Len(); fmt.Fprintf(&b, "%d 0 obj\n", n) }

	begin(root)
	b.WriteString(strings.TrimSuffix(strings.TrimSpace(catalog), ">>"))
	fmt.Fprintf(&b, "/AcroForm <</Fields [%d 0 R] /SigFlags 3>>\n/Perms <</DocMDP %d 0 R>>\n>>\nendobj\n", field, sig)
	begin(field)
	fmt.Fprintf(&b, "<</Type /Annot /Subtype /Widget /FT /Sig /T (Signature1) /F 132 /Rect [0 0 0 0] /V %d 0 R>>\nendobj\n", sig)
	begin(sig)
	b.WriteString("<</Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached\n/ByteRange ")
	const empty = "[0 0000000000 0000000000 0000000000]"
	byteRange := b.Len()
	b.WriteString(empty + "\n/Contents ")
	g := gap{start: b.Len()}
	b.WriteString("<" + strings.Repeat("0", 2*signatureRoom) + ">")
	g.end = b.Len()
	fmt.Fprintf(&b, "\n/Reference [<</Type /SigRef /TransformMethod /DocMDP /TransformParams <</Type /TransformParams /P 1 /V /1.2>>>>]\n/Name (%s) /M (D:%s+00'00')>>\nendobj\n",
		escape(name), at.UTC().Format("20060102150405"))
	xref := b.Len()
	fmt.Fprintf(&b, "xref\n%d 1\n%010d 00000 n \n%d 2\n%010d 00000 n \n%010d 00000 n \ntrailer\n<</Size %d /Root %d 0 R /Prev %d", root, offsets[root], sig, offsets[sig], offsets[field], size+2, root, start)
	if info := number(infoOf, trailer); info > 0 {
		fmt.Fprintf(&b, " /Info %d 0 R", info)
	}
	fmt.Fprintf(&b, ">>\nstartxref\n%d\n%%%%EOF\n", xref)
	out := b.Bytes()
	copy(out[byteRange:], fmt.Sprintf("[0 %010d %010d %010d]", g.start, g.end, len(out)-g.end))
	return out, g, nil
}

func number(re *regexp.Regexp, b []byte) int {
	m := re.FindSubmatch(b)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return 0
	}
	return n
}

func startXref(trailer []byte) int {
	_, rest, ok := bytes.Cut(trailer, []byte("startxref\n"))
	if !ok {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil {
		return 0
	}
	return n
}

// object is the text of a dictionary of ours: fpdf writes each object once.
func object(doc []byte, n int) string {
	_, rest, ok := bytes.Cut(doc, []byte(fmt.Sprintf("\n%d 0 obj\n", n)))
	if !ok {
		return ""
	}
	text, _, ok := bytes.Cut(rest, []byte("\nendobj"))
	if !ok || !bytes.HasPrefix(text, []byte("<<")) || !bytes.HasSuffix(bytes.TrimSpace(text), []byte(">>")) {
		return ""
	}
	return string(text)
}

func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`, "\n", " ", "\r", " ").Replace(s)
}

// cms is the signature over the signed bytes (RFC 5652), bound to its certificate
// (RFC 5035) and stamped.
func (s Signer) cms(ctx context.Context, data []byte) ([]byte, error) {
	sd, err := pkcs7.NewSignedData(data)
	if err != nil {
		return nil, fmt.Errorf("sign report: %w", err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	bound, err := signingCertificate(s.Cert)
	if err != nil {
		return nil, err
	}
	config := pkcs7.SignerInfoConfig{ExtraSignedAttributes: []pkcs7.Attribute{{Type: oidSigningCertV2, Value: asn1.RawValue{FullBytes: bound}}}}
	if err := sd.AddSignerChain(s.Cert, s.Key, s.Chain, config); err != nil {
		return nil, fmt.Errorf("sign report: %w", err)
	}
	sd.Detach()
	if s.Stamp != nil {
		info := &sd.GetSignedData().SignerInfos[0]
		token, err := s.Stamp(ctx, info.EncryptedDigest)
		if err != nil {
			return nil, fmt.Errorf("time stamp of the report: %w", err)
		}
		if err := info.SetUnauthenticatedAttributes([]pkcs7.Attribute{{Type: oidTimeStamp, Value: asn1.RawValue{FullBytes: token}}}); err != nil {
			return nil, fmt.Errorf("time stamp of the report: %w", err)
		}
	}
	out, err := sd.Finish()
	if err != nil {
		return nil, fmt.Errorf("sign report: %w", err)
	}
	return out, nil
}

// signingCertificate is SigningCertificateV2 with its default hash, SHA-256.
func signingCertificate(c *x509.Certificate) ([]byte, error) {
	type certID struct{ Hash []byte }
	type certV2 struct{ Certs []certID }
	sum := sha256.Sum256(c.Raw)
	b, err := asn1.Marshal(certV2{[]certID{{sum[:]}}})
	if err != nil {
		return nil, fmt.Errorf("name certificate of the signature: %w", err)
	}
	return b, nil
}
