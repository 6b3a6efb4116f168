package rules

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"
)

func TestReach(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("abc ", 10_000)
	iso := strings.Repeat("\x00", 0x8001) + "CD001" + long
	for name, tt := range map[string]struct {
		file, data, ext, kind string
		all, none             bool
	}{
		"a program":               {file: "attachments.yar", data: "MZ" + long, all: true},
		"a OneNote file":          {file: "attachments.yar", data: "\xe4\x52\x5c\x7b" + long, all: true},
		"an ISO image":            {file: "attachments.yar", data: iso, all: true},
		"text":                    {file: "attachments.yar", data: long},
		"short text":              {file: "attachments.yar", data: "abc", all: true},
		"nearly an ISO image":     {file: "attachments.yar", data: iso[:0x8003]},
		"a script":                {file: "html.yar", data: long + "<ScRiPt", ext: ".jpg", all: true},
		"a field":                 {file: "html.yar", data: "a < b <<INPUT>", all: true},
		"a drawing":               {file: "html.yar", data: "<svg", all: true},
		"a page without":          {file: "html.yar", data: "<html><p>script input svg<s<sv<i<sc ript", ext: ".html", none: true},
		"a cut tag":               {file: "html.yar", data: "<p><sv", ext: ".html", none: true},
		"nothing":                 {file: "html.yar", data: "", ext: ".html", none: true},
		"macros":                  {file: "macros.yar", data: long, kind: "text/x-vba", all: true},
		"relations of a document": {file: "macros.yar", data: long, ext: ".rels", all: true},
		"text for macros":         {file: "macros.yar", data: "Sub AutoOpen()\nShell(", ext: ".txt", kind: "text/plain", none: true},
		"the mark":                {file: "proof.yar", data: long + "mailward-proof-of-detection-7Qm2vXc9LrT4", all: true},
		"no mark":                 {file: "proof.yar", data: long, none: true},
		"somebody else's rules":   {file: "", data: long, all: true},
		"a new file":              {file: "new.yar", data: long, all: true},
	} {
		got, ok := Reach(tt.file, []byte(tt.data), tt.ext, tt.kind)
		switch {
		case ok == tt.none:
			t.Errorf("%s: matched: %v", name, ok)
		case ok && !bytes.HasPrefix([]byte(tt.data), got):
			t.Errorf("%s: it is not the head", name)
		case ok && (len(got) == len(tt.data)) != tt.all:
			t.Errorf("%s: %d bytes of %d", name, len(got), len(tt.data))
		}
	}
}

// Whoever changes the mark changes it in both places.
func TestReach_ProofMark(t *testing.T) {
	t.Parallel()
	b, err := fs.ReadFile(Files, "proof.yar")
	if err != nil || !bytes.Contains(b, []byte(proofMark+`"`)) {
		t.Errorf("proof.yar has no %q, %v", proofMark, err)
	}
}
