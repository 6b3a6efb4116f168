package sidecar

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailward/policy"
)

// seenMatcher notes what it is asked about, and finds nothing.
type seenMatcher struct{ vars []Vars }

func (m *seenMatcher) Match(_ []byte, v Vars) ([]policy.Finding, error) {
	m.vars = append(m.vars, v)
	return nil, nil
}

func namedZip(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestInspect: what a document hides is found through a mail, its files are
// parts, and its text and links are handed on.
func TestInspect(t *testing.T) {
	t.Parallel()
	script := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("alert(1); ", 5)))
	pdf := "%PDF-1.7\n1 0 obj << /F (evil.js) /EF << /F 2 0 R >> >> endobj\n2 0 obj << /Length 8 >> stream\nalert(1)\nendstream endobj\n3 0 obj << /S /URI /URI (https://there.example/) >> endobj\n"
	docx := namedZip(t, "[Content_Types].xml", "<Types/>", "word/document.xml", `<w:document xmlns:w="w"><w:p><w:r><w:t>Secret plan</w:t></w:r></w:p></w:document>`,
		"word/_rels/settings.xml.rels", `<Relationships><Relationship Type="x/attachedTemplate" Target="http://bad.example/a.dotm" TargetMode="External"/></Relationships>`, "word/embeddings/a.pdf", pdf)
	for name, tt := range map[string]struct {
		file, part, finding, text, link string
		data                            []byte
	}{
		"document in a mail":           {"a.docx", "a.pdf", "Document.RemoteTemplate", "Secret plan", "http://bad.example/a.dotm", docx},
		"file in a PDF in a document":  {"a.docx", "evil.js", "Script", "", "https://there.example/", docx},
		"document in an archive":       {"a.zip", "a.docx", "Document.RemoteTemplate", "Secret plan", "", namedZip(t, "a.docx", string(docx))},
		"script in an address of HTML": {"a.html", "", "HTML.DataPage", "", "", []byte(`<a href="data:text/html;base64,` + script + `">x</a>`)},
	} {
		resp, err := (&Worker{Matcher: &seenMatcher{}, Limits: DefaultLimits()}).scan(attached(tt.file, tt.data))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(resp.Findings, func(f policy.Finding) bool { return f.Name == tt.finding && f.Part != "" && f.Engine == "yara" }) {
			t.Errorf("%s: %s not found: %+v", name, tt.finding, resp.Findings)
		}
		if !slices.ContainsFunc(resp.Parts, func(p policy.Part) bool { return p.Name == tt.part }) {
			t.Errorf("%s: part %s is missing: %+v", name, tt.part, resp.Parts)
		}
		said, links := fmt.Sprint(resp.Content.Texts), fmt.Sprint(resp.Content.Links)
		if !strings.Contains(said, tt.text) || !strings.Contains(links, tt.link) {
			t.Errorf("%s: text %s, links %s", name, said, links)
		}
	}
}

// TestInspect_Macros: the source of macros is matched in clear.
func TestInspect_Macros(t *testing.T) {
	t.Parallel()
	m := &seenMatcher{}
	if _, err := (&Worker{Matcher: m, Limits: DefaultLimits()}).scan(attached("a.pdf", []byte("%PDF-1.7\n1 0 obj << /S /JavaScript /JS (app.alert\\(1\\)) >> endobj\n"))); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(m.vars, func(v Vars) bool { return v.TrueType == "text/x-javascript" && v.Path == "1.2.javascript" }) {
		t.Errorf("%+v", m.vars)
	}
}

// TestInspect_Depth: a file too deep in others is unscannable, and the
// rest of the mail is looked at all the same.
func TestInspect_Depth(t *testing.T) {
	t.Parallel()
	lim := DefaultLimits()
	lim.ArchiveDepth = 0
	pdf := "%PDF-1.7\n1 0 obj << /F (evil.js) /EF << /F 2 0 R >> >> endobj\n2 0 obj << /Length 8 >> stream\nalert(1)\nendstream endobj\n"
	resp, err := (&Worker{Matcher: &seenMatcher{}, Limits: lim}).scan(attached("a.pdf", []byte(pdf)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(resp.Limits, errArchiveDepth.Error()) {
		t.Errorf("limits %v", resp.Limits)
	}
}
