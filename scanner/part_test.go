package scanner

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"testing"

	"mailward/internal/testenv"
	"mailward/scanner/sidecar"
)

// TestPart: the sidecar hands out what it found in a mail, by its hash.
func TestPart(t *testing.T) {
	t.Parallel()
	side := NewSidecar(SidecarConfig{Socket: testenv.Sidecar(t).Address})
	script, big := []byte("#!/bin/sh\necho hello\n"), bytes.Repeat([]byte("0123456789abcdef"), sidecar.MaxPart/16+1)
	var zipped bytes.Buffer
	zw := zip.NewWriter(&zipped)
	w, err := zw.Create("inner.sh")
	if err == nil {
		_, err = w.Write([]byte("#!/bin/sh\necho inner\n"))
	}
	if err != nil || zw.Close() != nil {
		t.Fatal(err)
	}
	part := func(name string, b []byte) string {
		return "--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=" + name + "\r\n\r\n" + base64.StdEncoding.EncodeToString(b) + "\r\n"
	}
	mail := spool(t, []byte("From: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"+part("run.sh", script)+part("a.zip", zipped.Bytes())+part("big.bin", big)+"--b--\r\n"))
	hash := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	for name, want := range map[string][]byte{"an attachment": script, "a file in an archive": []byte("#!/bin/sh\necho inner\n"), "the archive": zipped.Bytes()} {
		if got, err := side.Part(context.Background(), mail.File(), hash(want)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, sum := range map[string]string{"one that is not there": hash([]byte("x")), "one that is too big": hash(big), "no hash": "", "nonsense": "../x"} {
		if got, err := side.Part(context.Background(), mail.File(), sum); !errors.Is(err, ErrNoPart) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}
