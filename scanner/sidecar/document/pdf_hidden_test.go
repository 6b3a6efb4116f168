package document

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mailward/policy"
)

// TestPDF_HiddenObjects: readers go by a table of places, which may lead into what
// looks like another object's string or stream, and read a number with a comment
// behind it. Each way is found, and none without what is hidden.
func TestPDF_HiddenObjects(t *testing.T) {
	t.Parallel()
	const launch = "<< /S /Launch /Win << /F (cmd.exe) /P (/c calc) >> >>"
	const page = "<< /S /GoTo /D [2 0 R /Fit] >>"
	for name, around := range map[string]func(object string) string{
		"behind a string without end":   func(o string) string { return "1 0 obj << /A (never closed >>\nendobj\n5 0 obj " + o + " endobj" },
		"in a string":                   func(o string) string { return "1 0 obj << /A (x\n5 0 obj " + o + " endobj\n) >> endobj" },
		"behind hex digits without end": func(o string) string { return "1 0 obj << /A <41 \nendobj\n5 0 obj " + o + " endobj" },
		"in a stream": func(o string) string {
			return "1 0 obj << /Length 400 >>\nstream\n5 0 obj " + o + " endobj\nendstream endobj"
		},
		"number far from its word":           func(o string) string { return "5" + strings.Repeat(" ", 100) + "0\n\nobj " + o + " endobj" },
		"comment behind the number":          func(o string) string { return "5 0 % a comment\nobj " + o + " endobj" },
		"at the end, after a lone backslash": func(o string) string { return "5 0 obj " + o + " endobj 6 0 obj <<(\\" },
	} {
		if f := open(t, "a.pdf", "application/pdf", []byte("%PDF-1.7\n"+around(launch))); !hasFinding(f.Findings, "PDF.Launch.Command") {
			t.Errorf("%s: %+v", name, f.Findings)
		}
		if f := open(t, "a.pdf", "application/pdf", []byte("%PDF-1.7\n"+around(page))); len(f.Findings) != 0 {
			t.Errorf("%s, harmless: %+v", name, f.Findings)
		}
	}
}

func hasFinding(list []policy.Finding, name string) bool {
	for _, f := range list {
		if f.Name == name {
			return true
		}
	}
	return false
}

// TestPDF_Streams: a stream is taken whole where its length is an object of its
// own and the word that ends it stands in it, and where blanks and comments stand
// before it. An uncompressed PDF file inside does not change what the outer one's
// numbers mean.
func TestPDF_Streams(t *testing.T) {
	t.Parallel()
	data := "the file\nendstream\nitself"
	inner := string(buildPDF("<< /Type /Catalog >>", "<< /Type /Nothing >>"))
	for name, tt := range map[string]struct{ pdf, want string }{
		"length elsewhere":   {string(buildPDF("<< /F (evil.js) /EF << /F 2 0 R >> >>", "<< /Length 3 0 R >>\nstream\n"+data+"\nendstream", "25")), data},
		"blanks before":      {string(buildPDF("<< /F (evil.js) /EF << /F 2 0 R >> >>", "<< /Length 8 >>"+strings.Repeat(" ", 200)+"% x\nstream\nthe file\nendstream")), "the file"},
		"a PDF file in one":  {string(buildPDF("<< /F (evil.js) /EF << /F 2 0 R >> >>", pdfStreamOf("", []byte("the file")), pdfStreamOf("", []byte(inner)))), "the file"},
		"a PDF file outside": {string(buildPDF("<< /F (evil.js) /EF << /F 2 0 R >> >>", pdfStreamOf("", []byte(inner)))), inner},
	} {
		f := open(t, "a.pdf", "application/pdf", []byte(tt.pdf))
		if len(f.Embedded) == 0 || string(f.Embedded[0].Data) != tt.want {
			t.Errorf("%s: %+v", name, f.Embedded)
		}
	}
}

// TestPDF_Limits: what is not read, as there is too much of it or too deep, is an
// error, so that the mail is unscannable; and nothing costs more than its limit.
func TestPDF_Limits(t *testing.T) {
	t.Parallel()
	hidden := "\n9 0 obj << /S /Launch /Win << /F (cmd.exe) >> >> endobj"
	fill := func(s string) []byte { return []byte("%PDF-1.4 " + strings.Repeat(s, 4<<20/len(s)) + hidden) }
	for name, data := range map[string][]byte{
		"strings in strings": fill("1 0 obj("), "streams in streams": fill("1 0 obj<<>>stream "), "dictionaries in dictionaries": fill("1 0 obj<<"), "arrays in arrays": fill("1 0 obj ["), "one array": []byte("%PDF-1.1 1 0 obj " + strings.Repeat("[", 1<<20)), "one dictionary": []byte("%PDF-1.1 1 0 obj " + strings.Repeat("<</a ", 1<<19)),
		"trailers in trailers": fill("trailer("), "many objects": fill("1 0 obj 1 endobj "), "many items": fill("1 0 obj [" + strings.Repeat("1 ", maxPDFItems+1) + "] endobj "),
	} {
		begin := time.Now()
		_, err := Open(File{Name: "a.pdf", Attached: true, Data: data}, Limits{Bytes: 64 << 20})
		if !errors.Is(err, errPDFLimit) {
			t.Errorf("%s: %v, want the limit", name, err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}
