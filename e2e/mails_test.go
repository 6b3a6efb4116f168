package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand"
	"strings"
	"testing"
)

// eicar is the anti-virus test file, put together here so that no scanner that
// reads our source stops at it.
func eicar() []byte {
	return []byte(`X5O!P%@AP[4\PZX54(P^)7CC)7}$EIC` + `AR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`)
}

func text(subject, body string) []byte {
	return []byte("From: Erika <erika@sender.example>\r\nTo: Bob <bob@ours.example>\r\nSubject: " + subject +
		"\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <" + subject + "@sender.example>\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body + "\r\n")
}

func attachment(subject, name, ctype string, data []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Erika <erika@sender.example>\r\nTo: Bob <bob@ours.example>\r\nSubject: %s\r\n"+
		"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@sender.example>\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: multipart/mixed; boundary=\"b0undary\"\r\n\r\n--b0undary\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n"+
		"--b0undary\r\nContent-Type: %s; name=\"%s\"\r\nContent-Transfer-Encoding: base64\r\n"+
		"Content-Disposition: attachment; filename=\"%s\"\r\n\r\n", subject, subject, ctype, name, name)
	e := base64.StdEncoding.EncodeToString(data)
	for len(e) > 76 {
		b.WriteString(e[:76] + "\r\n")
		e = e[76:]
	}
	b.WriteString(e + "\r\n--b0undary--\r\n")
	return b.Bytes()
}

func zipped(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// noise is n bytes that do not compress and differ for each seed.
func noise(seed int64, n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

// yaraOnly is a harmless mail that our rules hit and ClamAV does not: an
// attachment with a double extension.
func yaraOnly(subject string) []byte {
	return attachment(subject, "invoice.pdf.js", "application/octet-stream", []byte("var greeting = 'hello';\r\n"))
}

func repeatLine(line string, size int) string {
	return strings.Repeat(line+"\r\n", size/(len(line)+2)+1)
}
