package document

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestSpeed: what is made to be slow to read is not. The bound is far above what
// it takes, and far below a mail's 20 seconds.
func TestSpeed(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	fill := func(s string) []byte { return bytes.Repeat([]byte(s), size/len(s)) }
	page := func(s string) []byte {
		return append([]byte("<script>new Blob(atob(document.write(1)))</script>"), fill(s)...)
	}
	for name, tt := range map[string]struct {
		file string
		data []byte
	}{
		"base64":   {"a.html", page("QUJD")},
		"metas":    {"a.html", page("<meta http-equiv ")},
		"events":   {"a.html", page("<a onload ")},
		"percents": {"a.html", page("%41'")},
		"data":     {"a.html", page("data:text/html;base64,")},
		"objects":  {"a.pdf", append([]byte("%PDF-1.4 "), fill("1 0 obj<<>>")...)},
		"streams":  {"a.pdf", append([]byte("%PDF-1.4 "), fill("1 0 obj<<>>stream ")...)},
		"names":    {"a.pdf", append([]byte("%PDF-1.4 1 0 obj"), fill("[/a(")...)},
		"groups":   {"a.rtf", append([]byte(`{\rtf1`), fill(`{\*\objdata 41`)...)},
		"macro":    {"a.doc", buildCFB("", stream{"", "M", module("Sub AutoOpen()\r\n" + strings.Repeat("Open a For b.shell ", 20_000))})},
		"csv":      {"a.csv", fill("=a,-b")},
	} {
		begin := time.Now()
		Open(File{Name: tt.file, Attached: true, Data: tt.data}, Limits{Bytes: 64 << 20}) // Whether it is over a limit does not matter.
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s: %v", name, took)
		} else {
			t.Logf("%s: %v", name, took)
		}
	}
}
