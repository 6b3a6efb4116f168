package samples

import (
	"bytes"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestSamples(t *testing.T) {
	files, err := filepath.Glob("*.eml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?i)[a-z0-9-]+(\.[a-z0-9-]+)*\.(com|org|net|de|example)\b`)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(b, []byte("\n")) != bytes.Count(b, []byte("\r\n")) || bytes.Count(b, []byte("\r")) != bytes.Count(b, []byte("\r\n")) {
			t.Errorf("%s has bare line ends", f)
		}
		if bytes.Contains(b, []byte("EICAR"+"-STANDARD")) {
			t.Errorf("%s holds the EICAR string", f)
		}
		if len(b) > 100_000 {
			t.Errorf("%s has %d bytes", f, len(b))
		}
		m, err := mail.ReadMessage(bytes.NewReader(b))
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		for _, h := range []string{"From", "To", "Subject", "Date", "Message-Id"} {
			if m.Header.Get(h) == "" {
				t.Errorf("%s has no %s", f, h)
			}
		}
		for _, n := range names.FindAllString(string(b), -1) {
			n = strings.ToLower(n)
			if !strings.HasSuffix(n, "example.com") && !strings.HasSuffix(n, "example.org") {
				t.Errorf("%s names %s", f, n)
			}
		}
		if !bytes.Contains(readme, []byte("| "+f+" |")) {
			t.Errorf("%s is not in README.md", f)
		}
	}
}

// What README.md calls clean is what [Harmless] returns, and nothing else.
func TestHarmless(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\S+\.eml) \|.*\| clean \|$`).FindAllStringSubmatch(string(readme), -1) {
		want = append(want, m[1])
	}
	list, err := Harmless()
	if err != nil || len(list) != len(want) || len(list) < 5 {
		t.Fatalf("%d mails, README.md has %v, error %v", len(list), want, err)
	}
	for i, m := range list {
		if m.Name != want[i] || len(m.Data) == 0 {
			t.Errorf("%s with %d bytes, want %s", m.Name, len(m.Data), want[i])
		}
	}
}
