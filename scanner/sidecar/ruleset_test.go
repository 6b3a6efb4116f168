package sidecar

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailward/policy"
)

func TestBundle_RefusesWhatIsNoBundle(t *testing.T) {
	t.Parallel()
	good := RuleSet{ID: "a", Name: "A", Version: 1, Class: policy.Spam, Score: 1, Source: "x"}
	with := func(change func(*RuleSet)) Bundle {
		s := good
		change(&s)
		return Bundle{Sets: []RuleSet{s}}
	}
	for name, tt := range map[string]struct {
		b  Bundle
		ok bool
	}{
		"good":       {Bundle{Sets: []RuleSet{good}}, true},
		"none":       {Bundle{}, true},
		"no id":      {with(func(s *RuleSet) { s.ID = "" }), false},
		"twice":      {Bundle{Sets: []RuleSet{good, good}}, false},
		"clean":      {with(func(s *RuleSet) { s.Class = policy.Clean }), false},
		"score":      {with(func(s *RuleSet) { s.Score = 101 }), false},
		"negative":   {with(func(s *RuleSet) { s.Score = -1 }), false},
		"big source": {with(func(s *RuleSet) { s.Source = strings.Repeat("x", MaxSource+1) }), false},
		"off":        {Bundle{Off: []string{"yara/x.yar"}}, true},
		"long off":   {Bundle{Off: []string{strings.Repeat("x", maxSpace+1)}}, false},
		"many off":   {Bundle{Off: make([]string, maxOff+1)}, false},
		"many sets":  {Bundle{Sets: make([]RuleSet, MaxSets+1)}, false},
	} {
		text, err := tt.b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadBundle(bytes.NewReader(text))
		if (err == nil) != tt.ok {
			t.Errorf("%s: error %v", name, err)
		}
		if err == nil && got.Fingerprint() != tt.b.Fingerprint() {
			t.Errorf("%s: changed on the way", name)
		}
	}
	x, y := good, good
	y.ID = "b"
	if (Bundle{Sets: []RuleSet{x, y}}).Fingerprint() != (Bundle{Sets: []RuleSet{y, x}}).Fingerprint() {
		t.Error("the order of the sets changes their fingerprint")
	}
	y.Score = 2
	if (Bundle{Off: []string{"a", "b"}}).Fingerprint() != (Bundle{Off: []string{"b", "a"}}).Fingerprint() || (Bundle{Off: []string{"a"}}).Fingerprint() == (Bundle{}).Fingerprint() {
		t.Error("files that are switched off do not count for the fingerprint as a set")
	}
	if (Bundle{Sets: []RuleSet{x, y}}).Fingerprint() == (Bundle{Sets: []RuleSet{x}}).Fingerprint() {
		t.Error("different sets have the same fingerprint")
	}
}

func TestReadOutline(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		source string
		lines  map[string]int
		issues int
	}{
		"rules":          {"rule a { }\n\nprivate rule b : tag { }\nglobal\nrule\nc { }", map[string]int{"a": 1, "b": 3, "c": 6}, 0},
		"comments":       {"// rule a\n/* rule b\n */ rule c { }", map[string]int{"c": 3}, 0},
		"open comment":   {"rule a { } /* rule b", map[string]int{"a": 1}, 0},
		"strings":        {`rule a { meta: x = "rule b \" import " strings: $x = /rule \/c "/ condition: $x }`, map[string]int{"a": 1}, 0},
		"import":         {`import "pe" import "cuckoo"`, map[string]int{}, 1},
		"over lines":     {"import\n//x\n\"magic\"", map[string]int{}, 1},
		"escaped module": {`import "cuck\x6fo"`, map[string]int{}, 1},
		"include":        {`include "a"`, map[string]int{}, 1},
		"no words":       {`rule $include { strings: $include = "a" $import = "cuckoo" }`, map[string]int{"$include": 1}, 0},
		"turned around":  {"rule a { } // \u202e evil", map[string]int{"a": 1}, 1},
		"open string":    {"rule a { meta: x = \"y\nimport \"cuckoo\"", map[string]int{"a": 1}, 1},
	} {
		o := ReadOutline(tt.source)
		same := len(o.Lines) == len(tt.lines)
		for k, v := range tt.lines {
			same = same && o.Lines[k] == v
		}
		if !same || len(o.Issues) != tt.issues {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// FuzzReadOutline: any text is read to its end, and every line is one that it has.
func FuzzReadOutline(f *testing.F) {
	f.Add("import \"pe\"\nrule a : b { strings: $a = /x\\/y/ condition: $a } // c")
	f.Add("/*/ include \"a\"")
	f.Add("\"\\")
	f.Fuzz(func(t *testing.T, source string) {
		o := ReadOutline(source)
		most := 1 + strings.Count(source, "\n")
		for _, i := range o.Issues {
			if i.Line < 1 || i.Line > most || i.Text == "" {
				t.Errorf("issue %+v of %d lines", i, most)
			}
		}
		for name, line := range o.Lines {
			if line < 1 || line > most || !strings.Contains(source, name) {
				t.Errorf("rule %q at line %d of %d", name, line, most)
			}
		}
	})
}

// FuzzReadBundle: what is taken can be written again, and reads the same.
func FuzzReadBundle(f *testing.F) {
	b, _ := Bundle{Sets: []RuleSet{{ID: "a", Class: policy.Spam, Source: "rule a { condition: true }"}}}.Encode()
	f.Add(b)
	f.Add([]byte(`{"sets":[{"id":"a","class":"sign","score":1e400}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ReadBundle(bytes.NewReader(data))
		if err != nil {
			return
		}
		out, err := got.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadBundle(bytes.NewReader(out))
		if err != nil || again.Fingerprint() != got.Fingerprint() {
			t.Errorf("%s reads as %+v, error %v", out, again, err)
		}
	})
}

// FuzzReceive: whatever comes on the socket, a worker ends the request, and keeps
// no descriptor of it.
func FuzzReceive(f *testing.F) {
	frame, _ := encoding.Marshal(Request{Op: OpPing})
	f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...), uint8(2))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, files uint8) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s")})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		before := openFiles(t)
		var rights []byte
		if n := int(files % 5); n > 0 {
			rights = unixRights(n)
		}
		if len(data) > 0 {
			client.WriteMsgUnix(data, rights, nil)
		}
		client.CloseWrite()
		server.SetDeadline(time.Now().Add(5 * time.Second))
		_, got, err := receive(server)
		if err == nil && len(got) > maxFiles {
			t.Errorf("%d files", len(got))
		}
		closeAll(got)
		if after := openFiles(t); after > before {
			t.Errorf("%d files are open, %d were", after, before)
		}
		client.Close()
	})
}

// unixRights are rights to our standard input, n times.
func unixRights(n int) []byte {
	return syscall.UnixRights(make([]int, n)...)
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
