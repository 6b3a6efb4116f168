package tsa

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
)

// authority serves stamps over HTTP, as one of the world does.
func authority(t *testing.T, twist func(*timestamp.Timestamp)) (*httptest.Server, Local) {
	t.Helper()
	l, err := OpenLocal(t.TempDir(), "tsa.example", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		q, err := timestamp.ParseRequest(b)
		if err != nil || r.Header.Get("Content-Type") != "application/timestamp-query" {
			http.Error(w, "no query", 400)
			return
		}
		ts := &timestamp.Timestamp{HashAlgorithm: q.HashAlgorithm, HashedMessage: q.HashedMessage, Time: time.Now(), Nonce: q.Nonce, Policy: builtInPolicy, SerialNumber: big.NewInt(7),
			Certificates: []*x509.Certificate{l.Root}, AddTSACertificate: q.Certificates}
		if twist != nil {
			twist(ts)
		}
		out, err := ts.CreateResponseWithOpts(l.Cert, l.Key, crypto.SHA256)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		w.Header().Set("Content-Type", "application/timestamp-reply")
		w.Write(out)
	}))
	t.Cleanup(srv.Close)
	return srv, l
}

func TestRemote(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	srv, l := authority(t, nil)
	st, err := Remote{URL: srv.URL, Trust: l.Roots(), Client: srv.Client()}.Stamp(ctx, []byte("x"))
	if err != nil || !st.Trusted || st.BuiltIn || st.Signer == nil || len(st.Chain) != 2 || time.Since(st.Time) > time.Minute {
		t.Fatalf("%+v, %v", st, err)
	}
	if st, err := (Remote{URL: srv.URL, Client: srv.Client()}).Stamp(ctx, []byte("x")); err != nil || st.Trusted {
		t.Errorf("trusted by nobody's word: %v", err)
	}
	_, other := authority(t, nil)
	if _, err := (Remote{URL: srv.URL, Trust: other.Roots(), Client: srv.Client()}).Stamp(ctx, []byte("x")); err == nil {
		t.Error("an authority that is not trusted is taken")
	}
	for name, twist := range map[string]func(*timestamp.Timestamp){
		"an old answer played back": func(ts *timestamp.Timestamp) { ts.Nonce = big.NewInt(1) },
		"of something else":         func(ts *timestamp.Timestamp) { ts.HashedMessage = make([]byte, 32) },
	} {
		srv, _ := authority(t, twist)
		if _, err := (Remote{URL: srv.URL, Client: srv.Client()}).Stamp(ctx, []byte("x")); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>busy") }))
	defer html.Close()
	if _, err := (Remote{URL: html.URL, Client: html.Client()}).Stamp(ctx, nil); err == nil {
		t.Error("a page of HTML is taken for a time stamp")
	}
	if _, err := (Remote{URL: "http://127.0.0.1:1/secret", Client: http.DefaultClient}).Stamp(ctx, nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows the address: %v", err)
	}
}

// TestKeys_MadeOnce: several processes that start at once have the same key.
func TestKeys_MadeOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	found := make(chan string, 8)
	for range 8 {
		go func() {
			p, err := OpenSigner(dir, "mx.ours.example", time.Now)
			if err != nil {
				found <- err.Error()
				return
			}
			found <- p.Cert.SerialNumber.String()
		}()
	}
	first := <-found
	for range 7 {
		if s := <-found; s != first {
			t.Errorf("another key: %s, %s", s, first)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "pdf.pem")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others can read the key", st.Mode(), err)
	}
	l, err1 := OpenLocal(dir, "a", time.Now)
	p, err2 := OpenSigner(dir, "a", time.Now)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	a, err := os.ReadFile(filepath.Join(dir, "tsa.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePair(append(PEM(p.Cert), a...)); err == nil {
		t.Error("a key with the certificate of another is taken")
	}
	if st, err := l.Stamp(context.Background(), []byte("x")); err != nil || !st.BuiltIn || !strings.Contains(l.Name(), "demonstration") {
		t.Errorf("the built-in authority does not say what it is: %v", err)
	}
}
