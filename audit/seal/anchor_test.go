package seal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/google/uuid"

	"mailward/audit"
	"mailward/audit/proof"
	"mailward/internal/worm"
)

// tsa is a time stamp authority in this process, with a certificate of its own.
// It stands for one in the world: nobody vouches for it but the test.
type tsa struct {
	*httptest.Server
	roots *x509.CertPool
	ca    *x509.Certificate
	twist func(ts *timestamp.Timestamp)
}

func newTSA(t *testing.T) *tsa { return newTSAUntil(t, time.Now().Add(time.Hour)) }

// newTSAUntil has an authority whose own certificate ends at a time, while that of
// its CA goes on.
func newTSAUntil(t *testing.T, end time.Time) *tsa {
	t.Helper()
	newCert := func(c, parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, crypto.Signer) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c.SerialNumber, c.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-48*time.Hour)
		if parent == nil {
			parent, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	ca, caKey := newCert(&x509.Certificate{Subject: pkix.Name{CommonName: "Test CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		t.Fatal(err)
	}
	cert, key := newCert(&x509.Certificate{Subject: pkix.Name{CommonName: "Test TSA"}, NotAfter: end, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: eku}}}, ca, caKey)
	s := &tsa{roots: x509.NewCertPool(), ca: ca}
	s.roots.AddCert(ca)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		q, err := timestamp.ParseRequest(b)
		if err != nil || r.Header.Get("Content-Type") != "application/timestamp-query" {
			http.Error(w, "no query", 400)
			return
		}
		ts := &timestamp.Timestamp{HashAlgorithm: q.HashAlgorithm, HashedMessage: q.HashedMessage, Time: time.Now(), Nonce: q.Nonce, Policy: asn1.ObjectIdentifier{1, 2, 3},
			SerialNumber: big.NewInt(7), Certificates: []*x509.Certificate{ca}, AddTSACertificate: q.Certificates}
		if s.twist != nil {
			s.twist(ts)
		}
		out, err := ts.CreateResponseWithOpts(cert, key, crypto.SHA256)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		w.Header().Set("Content-Type", "application/timestamp-reply")
		w.Write(out)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestAnchor_TSA(t *testing.T) {
	t.Parallel()
	s, ctx := newTSA(t), context.Background()
	c := Signed{Note: "a note\n"}
	a := TSA{URL: s.URL, Roots: s.roots, Client: HTTPClient()}
	token, detail, err := a.Send(ctx, c)
	if err != nil || !strings.Contains(detail, "is trusted") {
		t.Fatalf("%q, %v", detail, err)
	}
	if at, trusted, err := proof.CheckToken(token, c.Note, s.roots); err != nil || !trusted || time.Since(at) > time.Minute {
		t.Errorf("%v %v %v", at, trusted, err)
	}
	if _, _, err := proof.CheckToken(token, "another note\n", s.roots); err == nil {
		t.Error("the token fits another note")
	}
	if _, _, err := proof.CheckToken(token, c.Note, x509.NewCertPool()); err == nil {
		t.Error("an authority that nobody vouches for is trusted")
	}
	bad := bytes.Clone(token)
	bad[len(bad)-10] ^= 1
	if _, _, err := proof.CheckToken(bad, c.Note, s.roots); err == nil {
		t.Error("a changed token passes")
	}
	for name, f := range map[string]func(*timestamp.Timestamp){
		"an old answer played back": func(ts *timestamp.Timestamp) { ts.Nonce = big.NewInt(1) },
		"of something else":         func(ts *timestamp.Timestamp) { ts.HashedMessage = make([]byte, 32) },
	} {
		s.twist = f
		if _, _, err := a.Send(ctx, c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>busy") }))
	defer html.Close()
	if _, _, err := (TSA{URL: html.URL, Client: HTTPClient()}).Send(ctx, c); err == nil {
		t.Error("a page of HTML is taken for a time stamp")
	}
}

func TestAnchor_Webhook(t *testing.T) {
	t.Parallel()
	var body, sig string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte("secret"))
		fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), b)
		body, sig = string(b), base64.StdEncoding.EncodeToString(mac.Sum(nil))
		if r.Header.Get("webhook-signature") != "v1,"+sig {
			w.WriteHeader(401)
			return
		}
		io.WriteString(w, "kept as 42")
	}))
	defer srv.Close()
	w := Webhook{URL: srv.URL + "/token-in-path", Secret: "secret", Client: HTTPClient(), Now: time.Now}
	receipt, _, err := w.Send(context.Background(), Signed{Note: "a note\n"})
	if err != nil || !strings.Contains(string(receipt), "kept as 42") || !strings.Contains(body, `"note":"a note\n"`) {
		t.Errorf("%s, %s, %v", receipt, body, err)
	}
	if strings.Contains(w.Target(), "token") {
		t.Error("the target shows a secret")
	}
	w.Secret = "other"
	if _, _, err := w.Send(context.Background(), Signed{Note: "x"}); err == nil {
		t.Error("401 is a receipt")
	}
	w.URL = "http://127.0.0.1:1/token-in-path"
	if _, _, err := w.Send(context.Background(), Signed{Note: "x"}); err == nil || strings.Contains(err.Error(), "token") {
		t.Errorf("the error shows a secret: %v", err)
	}
}

// storage is a double of an object storage, as far as minio-go asks for it here:
// no real one can be run in these tests.
func storage(t *testing.T, locks bool) (*httptest.Server, *sync.Map) {
	t.Helper()
	kept := &sync.Map{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("location"):
			io.WriteString(w, `<?xml version="1.0"?><LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`)
		case r.Method == http.MethodPut:
			io.Copy(io.Discard, r.Body)
			kept.Store(r.URL.Path, r.Header.Clone())
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
			w.Header().Set("x-amz-version-id", "v1")
		case r.Method == http.MethodHead && r.URL.Query().Get("versionId") == "v1":
			v, ok := kept.Load(r.URL.Path)
			if !ok {
				w.WriteHeader(404)
				return
			}
			h := v.(http.Header)
			if locks {
				w.Header().Set("X-Amz-Object-Lock-Mode", h.Get("X-Amz-Object-Lock-Mode"))
				w.Header().Set("X-Amz-Object-Lock-Retain-Until-Date", h.Get("X-Amz-Object-Lock-Retain-Until-Date"))
			}
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
			w.Header().Set("x-amz-version-id", "v1")
		default:
			w.WriteHeader(403)
		}
	}))
	t.Cleanup(srv.Close)
	return srv, kept
}

func TestAnchor_Bucket(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	send := func(locks bool) ([]byte, string, error) {
		srv, _ := storage(t, locks)
		b := Bucket{Bucket: worm.Bucket{Endpoint: strings.TrimPrefix(srv.URL, "http://"), PlainHTTP: true, Name: "worm", AccessKey: "k", SecretKey: "s"}, Prefix: "mailward/", Keep: 24 * time.Hour, Now: time.Now}
		return b.Send(ctx, Signed{Checkpoint: proof.Checkpoint{Origin: origin, Size: 7}, Note: "a note\n"})
	}
	receipt, detail, err := send(true)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(receipt, &m); err != nil || m["mode"] != "COMPLIANCE" || m["version"] != "v1" || m["key"] != "mailward/mx.ours.example_audit/00000000000000000007.note" {
		t.Errorf("%s, %s, %v", receipt, detail, err)
	}
	// A bucket without Object Lock takes objects and locks nothing.
	if _, _, err := send(false); !errors.Is(err, worm.ErrNotLocked) {
		t.Errorf("a bucket that locks nothing counts as an anchor: %v", err)
	}
}

// post keeps mails.
type post struct {
	to, text string
	err      error
}

func (p *post) Notice(_ context.Context, to, _, text string) (uuid.UUID, error) {
	p.to, p.text = to, text
	return uuid.New(), p.err
}

// TestAnchors_RetriedAndOnRecord: a failure is tried again with growing waits, is
// one event, and the receipt that comes at last is kept.
func TestAnchors_RetriedAndOnRecord(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), context.Background()
	var later time.Duration // the database has a clock of its own, so ours runs on
	r.Now = func() time.Time { return time.Now().Add(later) }
	p := &post{err: errors.New("no route")}
	s := newTSA(t)
	r.Anchors = []Named{{Mail{To: "auditor@elsewhere.example", Postman: p}, "auditor", 24 * time.Hour}, {TSA{URL: s.URL, Roots: s.roots, Client: HTTPClient()}, "stamp", time.Hour}}
	look := func() map[string]anchorState {
		t.Helper()
		if err := r.AnchorDue(ctx); err != nil {
			t.Fatal(err)
		}
		st, err := r.anchorStates(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := look(); len(st) != 0 {
		t.Errorf("anchored before anything is sealed: %v", st)
	}
	r.act(3, audit.Login)
	r.seal()
	if st := look(); !st["stamp"].OK || st["auditor"].OK || st["auditor"].Failures != 1 {
		t.Fatalf("%+v", st)
	}
	if st := look(); st["auditor"].Failures != 1 {
		t.Errorf("tried again at once: %+v", st["auditor"])
	}
	later += 61 * time.Second
	if st := look(); st["auditor"].Failures != 2 {
		t.Errorf("not tried again: %+v", st["auditor"])
	}
	if st, err := r.Status(ctx); err != nil || st.Anchors[0].FailingSince == nil || st.Anchors[1].LastOK == nil || st.Anchors[0].Detail != "no route" {
		t.Errorf("%+v, %v", st, err)
	}
	p.err = nil
	later += 10 * time.Minute
	if st := look(); !st["auditor"].OK || !strings.Contains(p.text, "-----BEGIN CHECKPOINT-----\n"+origin) {
		t.Errorf("%+v %s", st["auditor"], p.text)
	}
	for action, want := range map[string]int{audit.AnchorFailed: 1, audit.AnchorRecovered: 1} {
		if l, err := r.Audit.List(ctx, audit.Filter{Action: action}); err != nil || len(l.Items) != want {
			t.Errorf("%s: %d events, %v", action, len(l.Items), err)
		}
	}
	list, err := r.Receipts(ctx, nil, 10, true)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d receipts, %v", len(list), err)
	}
	rep := r.verify(r.bundle(Part{}), proof.Options{Roots: s.roots})
	if rep.Problem != "" || rep.Stamps != 1 || rep.Trusted != 1 || rep.Receipts != 2 {
		t.Errorf("%+v", rep)
	}
	if rep := r.verify(r.bundle(Part{}), proof.Options{Roots: x509.NewCertPool()}); !strings.Contains(rep.Problem, "not trusted") {
		t.Errorf("%+v", rep)
	}
}
