package document

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// encodeScript is what the encoder of Windows makes of a script.
func encodeScript(plain string) []byte {
	table, _ := hex.DecodeString(strings.ReplaceAll(scriptAlphabets, " ", ""))
	escapes := map[byte]string{'\r': "@#", '\n': "@&", '<': "@!", '>': "@*", '@': "@$"}
	var code []byte
	sum := uint32(0)
	for i, c := range []byte(plain) {
		sum += uint32(c)
		if e, ok := escapes[c]; ok {
			code = append(code, e...)
			continue
		}
		row := 0
		if c != '\t' {
			row = int(c) - 31
		}
		code = append(code, table[row*3+int(scriptTurns[i%64]-'0')])
	}
	number := func(n uint32) []byte {
		return []byte(base64.StdEncoding.EncodeToString(binary.LittleEndian.AppendUint32(nil, n)))
	}
	b := append([]byte("#@~^"), number(uint32(len(code)))...)
	b = append(append(b, code...), number(sum)...)
	return append(b, "^#~@"...)
}

// TestScriptEncoder: each character comes back, also where the block lies about
// its length or ends early, and a script of Windows' own encoder is read.
func TestScriptEncoder(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for range 64 { // every character in every turn
		all.WriteString("\t\r\n")
		for c := byte(' '); c < 127; c++ {
			all.WriteByte(c)
		}
	}
	encoded := encodeScript(all.String())
	if got := decodeScript(encoded); string(got) != all.String() {
		t.Fatalf("%q", got)
	}
	call := encodeScript("CreateObject(\"WScript.Shell\").Run \"calc\"")
	lying := append([]byte("#@~^AAAAAA=="), call[12:]...)
	for name, b := range map[string][]byte{"as it is": call, "a length that lies": lying, "two blocks": append(encodeScript("x = 1"), call...), "UTF-16": append([]byte("\xff\xfe"), wide(string(call))...)} {
		f := open(t, "a.vbe", "text/plain", b)
		if !has(f, "Script.Calls") || !has(f, "Script.Encoded") || len(f.Code) != 1 || !bytes.Contains(f.Code[0].Source, []byte("WScript.Shell")) || f.Code[0].Language != "vbscript" {
			t.Errorf("%s: %+v, %q", name, f.Findings, f.Code)
		}
	}
	page := append(append([]byte("<html><script language=JScript.Encode>"), encodeScript("new ActiveXObject(\"WScript.Shell\").Run(\"calc\")")...), "</script></html>"...)
	if f := open(t, "a.html", "text/html", page); !has(f, "Script.Encoded") || !has(f, "HTML.ActiveX") {
		t.Errorf("an encoded script in a page: %+v", f)
	}
	if f := open(t, "a.vbe", "text/plain", encodeScript("x = 1")); has(f, "Script.Calls") || !has(f, "Script.Encoded") {
		t.Errorf("the twin: %+v", f.Findings)
	}
	if f := open(t, "a.txt", "text/plain", []byte("a script begins with #@~^ and is not here")); len(f.Findings) > 0 {
		t.Errorf("a text about it: %+v", f.Findings)
	}
	if got := decodeScript([]byte("#@~^DgAAAA==\\ko$K6,JCV^GJqAQAAA==^#~@")); !strings.HasPrefix(string(got), `MsgBox "H`) {
		t.Errorf("%q", got)
	}
}

func FuzzScript(f *testing.F) {
	fuzzed(f, "a.vbe", encodeScript("x = 1 <@>\r\n"), []byte("#@~^AAAAAA==abc"), []byte("#@~^#@~^^#~@"))
}
