package document

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strings"
)

// maxMacro bounds the source of one module.
const maxMacro = 16 << 20

// Names under which a macro starts by itself (Word, Excel, PowerPoint, and the
// events of controls that fire as soon as a document is shown).
var autoExec = []string{
	"autoopen(", "auto_open(", "autoexec(", "auto_exec(", "autoclose(", "auto_close(", "autonew(", "autoexit(", "auto_ouvrir(",
	"document_open(", "document_close(", "document_new(", "document_beforeclose(", "document_beforesave(", "documentchange(", "documentbeforeclose(", "document_contentcontrolonenter(",
	"workbook_open(", "workbook_activate(", "workbook_beforeclose(", "workbook_close(", "workbook_windowactivate(", "workbook_sheetactivate(", "workbook_addininstall(", "worksheet_activate(",
	"app_documentopen(", "app_workbookopen(", "_layout(", "_painted(", "_painting(", "_documentcomplete(", "_downloadcomplete(", "_beforenavigate2(", "onslideshowpagechange(", "onslideshowterminate(",
}

// Calls with which a macro leaves its document.
var dangerous = []string{
	"wscript.shell", "shell.application", "shellexecute", "shell(", " shell ", "urldownloadtofile", "xmlhttp", "winhttp.winhttprequest", "internetexplorer.application", "adodb.stream", "filesystemobject",
	"winmgmts:", "win32_process", "createprocess", "virtualalloc", "writeprocessmemory", "rtlmovememory", "createthread", "createremotethread", "queueuserapc", "cmd /c", "cmd.exe", "powershell", "pwsh", "mshta",
	"rundll32", "regsvr32", "certutil", "bitsadmin", "cscript", "schtasks", "regwrite", "executeexcel4macro", "getobject(\"new:", "getobject(\"script", "macscript(", "applescripttask", "ddeinitiate",
	"environ(\"temp", "environ(\"appdata", "environ(\"public", "environ$(\"temp", "environ$(\"appdata", " for binary ", " for output ",
}

// fewHide is from how many pieces of hidden text on a module counts as written
// to be unreadable.
const fewHide = 25

// maxJudged bounds what patterns are matched on: they take about a second for it.
const maxJudged = 1 << 20

// concat are string pieces that are joined at once: "Wscr" & "ipt.Sh" & "ell".
var concat = regexp.MustCompile(`"[ \t]*(?:&|\+)[ \t]*(?:_\r?\n[ \t]*)?"`)

// macro judges the source of all macros of a document.
func (r *reader) macro(source []byte) {
	if len(bytes.TrimSpace(source)) == 0 {
		return
	}
	r.code("vba", source)
	low := lower(source)
	if !containsAny(low, "sub ", "function ", "property ", "declare ") {
		return // Attributes of the empty modules that every workbook with a project has.
	}
	low = append(concat.ReplaceAll(low[:min(len(low), maxJudged)], nil), low[min(len(low), maxJudged):]...)
	auto, calls := words(low, autoExec), words(low, dangerous)
	hidden := bytes.Count(low, []byte("chr(")) + bytes.Count(low, []byte("chrw(")) + bytes.Count(low, []byte("chr$("))
	if calls == "" && containsAny(low, "llehs.tpircsw", "llehsrewop") {
		calls = "a program's name written backwards"
	}
	switch {
	case auto != "" && calls != "":
		r.suspect("Document.Macro.AutoExec", 8, "a macro in it starts by itself when it is opened, and reaches out of the document", "starts", auto, "calls", calls)
	case auto != "" && hidden >= fewHide:
		r.suspect("Document.Macro.Obfuscated", 7, "a macro in it starts by itself when it is opened, and is written to hide what it does", "starts", auto)
	case auto != "":
		r.sign("Document.Macro.Start", 2.5, "a macro in it starts by itself when it is opened", "starts", auto)
	case calls != "":
		r.sign("Document.Macro.Calls", 2.5, "a macro in it reaches out of the document once a person starts it", "calls", calls)
	default:
		r.sign("Document.Macro", 1.5, "there are macros in it")
	}
}

// names lists what a pattern hits, each once, in lower case.
func names(re *regexp.Regexp, b []byte) string {
	b = b[:min(len(b), maxJudged)]
	var out []string
	seen := map[string]bool{}
	for _, m := range re.FindAllSubmatch(b, 200) {
		n := strings.Trim(strings.ToLower(string(m[1])), " \t(\"")
		if !seen[n] && len(out) < 10 {
			seen[n] = true
			out = append(out, clip(n, 60))
		}
	}
	return strings.Join(out, ", ")
}

// words lists those that text in lower case holds.
func words(low []byte, list []string) string {
	var out []string
	for _, w := range list {
		if len(out) < 10 && bytes.Contains(low, []byte(w)) {
			out = append(out, strings.Trim(w, " (\""))
		}
	}
	return strings.Join(out, ", ")
}

func reverse(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[len(b)-1-i] = c
	}
	return out
}

// programStart begins the stream of a module that Office has compiled (MS-OVBA
// §2.3.4.3: the performance cache, whose form is not published).
var programStart = []byte{0x01, 0x16}

// stomped judges what a module was compiled to against its source, which is what
// scanners and people read. Office runs the compiled form where it is of its own
// version, so that a source that says something else, or is gone, is there to
// deceive ("VBA stomping"). Texts of the source stand in the compiled form as
// they are.
func (r *reader) stomped(name string, stream, source []byte) {
	switch name = strings.ToLower(name); {
	case name == "dir", name == "_vba_project", strings.HasPrefix(name, "__srp_"), len(bytes.Trim(stream, "\x00")) == 0:
		return // All others in that storage are modules (MS-OVBA §2.2.5).
	}
	if source == nil {
		r.suspect("Document.Macro.NoSource", 8, "a macro in it is there only in compiled form: its source was taken out")
		return
	}
	if !bytes.HasPrefix(stream, programStart) {
		return
	}
	compiled, low := lower(stream[:vbaStart(stream)]), lower(source)
	var only []string
	for _, w := range dangerous {
		if w = strings.TrimSpace(w); len(w) > 6 && !strings.Contains(w, "(") && bytes.Contains(compiled, []byte(w)) && !bytes.Contains(low, []byte(w)) && len(only) < 10 {
			only = append(only, w)
		}
	}
	if len(only) > 0 {
		r.suspect("Document.Macro.OtherSource", 8, "a macro in it was compiled from another source than the one that is shown", "calls", strings.Join(only, ", "))
	}
}

// vbaSource is the source in a stream that is a module of a VBA project; nil: it
// is none. MS-OVBA §2.3.4.3: the source starts with its attributes.
func vbaSource(stream []byte) []byte {
	i := vbaStart(stream)
	if i < 0 {
		return nil
	}
	return decompressVBA(stream[i:], maxMacro)
}

// vbaStart is where the source begins; -1: there is none. Its first chunk may also be
// one that is not compressed.
func vbaStart(stream []byte) int {
	if i := bytes.Index(stream, []byte("\x00Attribut")); i >= 3 {
		return i - 3
	}
	return bytes.Index(stream, []byte("\x01\xff\x3fAttribut"))
}

// decompressVBA undoes the compression of MS-OVBA §2.4.1, as far as it goes.
func decompressVBA(b []byte, limit int) []byte {
	var out []byte
	if len(b) == 0 || b[0] != 1 {
		return nil
	}
	b = b[1:]
	for len(b) >= 2 && len(out) < limit {
		h := binary.LittleEndian.Uint16(b)
		size := int(h&0x0fff) + 3
		compressed := h&0x8000 != 0
		chunk := b[2:min(size, len(b))]
		b = b[min(size, len(b)):]
		if h>>12&7 != 3 {
			return out
		}
		if !compressed {
			out = append(out, chunk...)
			continue
		}
		out = decompressChunk(out, chunk)
	}
	return out
}

// vbaChunk is what one chunk unpacks to at most; more is made only by those who
// want to hurt.
const vbaChunk = 4096

func decompressChunk(out, chunk []byte) []byte {
	start := len(out)
	for i := 0; i < len(chunk) && len(out)-start < vbaChunk; {
		flags := chunk[i]
		i++
		for bit := 0; bit < 8 && i < len(chunk); bit++ {
			if flags>>bit&1 == 0 {
				out = append(out, chunk[i])
				i++
				continue
			}
			if i+2 > len(chunk) {
				return out
			}
			token := binary.LittleEndian.Uint16(chunk[i:])
			i += 2
			done := len(out) - start
			bits := 4
			for 1<<bits < done && bits < 12 {
				bits++
			}
			offset, length := int(token>>(16-bits))+1, int(token&(0xffff>>bits))+3
			if offset > done {
				return out
			}
			for range length {
				out = append(out, out[len(out)-offset])
			}
		}
	}
	return out
}
