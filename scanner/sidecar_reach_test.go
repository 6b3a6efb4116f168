package scanner

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/uuid"

	"mailward/internal/testenv"
)

// reachPiece is a part of a mail, with the type that it says it has.
type reachPiece struct {
	name, kind string
	data       []byte
}

// piecesOf are the leaves of a mail that is well-formed.
func piecesOf(t *testing.T, raw []byte) []reachPiece {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(header func(string) string, name string, body io.Reader) reachPiece {
		switch strings.ToLower(header("Content-Transfer-Encoding")) {
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, body)
		case "quoted-printable":
			body = quotedprintable.NewReader(body)
		}
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := new(mime.WordDecoder).DecodeHeader(name); err == nil {
			name = n
		}
		return reachPiece{name, header("Content-Type"), b}
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		return []reachPiece{leaf(m.Header.Get, "", m.Body)}
	}
	var list []reachPiece
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, leaf(p.Header.Get, p.FileName(), p))
	}
}

// mixedMail is a mail of pieces.
func mixedMail(list ...reachPiece) []byte {
	var b bytes.Buffer
	boundary := "=_" + uuid.NewString()
	fmt.Fprintf(&b, "%sContent-Type: multipart/mixed; boundary=%q\r\n", mailHead, boundary)
	for _, p := range list {
		fmt.Fprintf(&b, "\r\n--%s\r\n", boundary)
		if p.kind != "" {
			fmt.Fprintf(&b, "Content-Type: %s\r\n", p.kind)
		}
		if p.name != "" {
			fmt.Fprintf(&b, "Content-Disposition: attachment; filename=\"%s\"\r\n", mime.BEncoding.Encode("utf-8", p.name))
		}
		if p.kind == "message/rfc822" {
			fmt.Fprintf(&b, "\r\n%s", p.data)
			continue
		}
		fmt.Fprintf(&b, "Content-Transfer-Encoding: base64\r\n\r\n%s", wrap(base64.StdEncoding.EncodeToString(p.data)))
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return b.Bytes()
}

// disguisedPieces are p under other names and types than its own.
func disguisedPieces(p reachPiece) (list []reachPiece) {
	for _, name := range []string{p.name, "", "page.html", "page.HTM", "drawing.svg", "page.xhtml", "saved.mht", "plain.txt", "report.pdf", "a.rels", "a.iso", "a.lnk", "a.js", "photo.jpg"} {
		for _, kind := range []string{p.kind, "", "text/html", "image/svg+xml", "text/plain", "application/octet-stream", "application/pdf", "image/jpeg"} {
			list = append(list, reachPiece{name, kind, p.data})
		}
	}
	return list
}

// nestedPieces are p inside of other things, behind other things, and in other letters.
func nestedPieces(t *testing.T, p reachPiece) []reachPiece {
	name := p.name
	kind, _, _ := strings.Cut(p.kind, ";")
	if name == "" && kind == "text/html" {
		name = "page.html" // Files in containers have names.
	} else if name == "" {
		name = "text.txt"
	}
	eml := mixedMail(p)
	wide := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(string(p.data))) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	inside := zipOf(t, name, p.data)
	const file = "application/octet-stream"
	list := []reachPiece{
		{"a.zip", file, inside}, {"a.zip", file, zipOf(t, "b.zip", inside)}, {"a.jpg", "image/jpeg", inside}, {"a.tgz", file, tgzOf(name, p.data)},
		{"", "message/rfc822", eml}, {"a.eml", file, eml}, {"a.zip", file, zipOf(t, "a.eml", eml)}, {"", "message/rfc822", mixedMail(reachPiece{"a.eml", "message/rfc822", eml})},
		{"", "text/plain", []byte(uuencode(name, p.data))}, {"saved.mht", file, mixedMail(reachPiece{"", "text/html", p.data})},
		{name, kind + "; charset=utf-16le", wide}, {name, kind, append(bytes.Clone(p.data), inside...)},
	}
	for _, front := range []string{"GIF89a", "%PDF-1.7\n", "\x89PNG\r\n\x1a\n", "\xff\xd8\xff\xe0", "MZ", "PK\x03\x04", "{\\rtf1", "\xef\xbb\xbf", strings.Repeat(" ", 600), strings.Repeat("\r\n", 20_000), "<!-- " + strings.Repeat("<", 500) + "-->"} {
		list = append(list, reachPiece{name, kind, append([]byte(front), p.data...)}, reachPiece{name, file, append([]byte(front), p.data...)})
	}
	return list
}

// everything are pieces in which much is found at a time, and rules of others.
var everything = []reachPiece{
	{"page.html", "text/html", []byte("<SVG onload = x><SCRIPT>new Blob createObjectURL msSaveOrOpenBlob atob( .download fetch(</SCRIPT><FORM action=https://x.example><INPUT Type=Password>")},
	{"page.html", "text/html", []byte("<sVg></svG \nonclick=1><INPUT><inPUT name=a type='password'> $.ajax <form method=post action='http://x.example'>")},
	{"page.html", "text/html", []byte("<p>1 < 2 <<script<scripT>atob( new Blob createObjectURL .click()<s<sv<i<inpu<")},
	{"photo.jpg", "image/jpeg", append(append([]byte("\xff\xd8\xff\xe0"), make([]byte, 300<<10)...), "rule-of-somebody-else"...)},
}

const othersRule = `rule Others_Rule { strings: $a = "rule-of-somebody-else" condition: $a }`

// TestSidecar_ReachLosesNothing: our own rules, which get no more of a piece than
// they may find something in, find in all places what they find when they are given
// as rules of somebody else, which get everything.
func TestSidecar_ReachLosesNothing(t *testing.T) {
	t.Parallel()
	others, own := t.TempDir(), "rules"
	if err := os.WriteFile(filepath.Join(others, "a.yar"), []byte(othersRule), 0o644); err != nil {
		t.Fatal(err)
	}
	own, err := filepath.Abs(own)
	if err != nil {
		t.Fatal(err)
	}
	limited := NewSidecar(SidecarConfig{Socket: testenv.SidecarWith(t, "--rules", others).Address})
	whole := NewSidecar(SidecarConfig{Socket: testenv.SidecarWith(t, "--no-builtin-rules", "--rules", own, "--rules", others).Address})
	fired := map[string]int{}
	found := func(s *Sidecar, raw []byte) (list []string) {
		a, err := s.Scan(context.Background(), Job{MailID: uuid.New(), Spool: spool(t, raw)})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Findings {
			if file, ok := strings.CutPrefix(f.Meta["file"], "mailward/"); ok {
				f.Meta["file"] = "rules/" + file // Whose rule it is is all that differs.
			}
			list = append(list, fmt.Sprintf("%+v", f))
			if s == limited {
				fired[f.Name]++
			}
		}
		slices.Sort(list)
		return list
	}
	files, err := filepath.Glob("testdata/mails/*.eml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d mails, %v", len(files), err)
	}
	pieces := slices.Clone(everything)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, piecesOf(t, raw)...)
	}
	count := map[string]map[string]int{}
	for place, places := range map[string]func(reachPiece) []reachPiece{"disguised": disguisedPieces, "nested": func(p reachPiece) []reachPiece { return nestedPieces(t, p) }} {
		clear(fired)
		for _, p := range pieces {
			raw := mixedMail(places(p)...)
			got, want := found(limited, raw), found(whole, raw)
			if !slices.Equal(got, want) {
				t.Errorf("%s %s (%s): found\n%s\nwant\n%s", place, p.name, p.kind, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		count[place] = map[string]int{}
		for _, rule := range append(ruleNames(t), "Others_Rule") {
			if count[place][rule] = fired[rule]; fired[rule] < 5 {
				t.Errorf("%s: %s is found %d times only", place, rule, fired[rule])
			}
		}
	}
	t.Logf("found: %v", count)
}
