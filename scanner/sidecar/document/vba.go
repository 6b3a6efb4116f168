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
var autoExec = regexp.MustCompile(`(?i)\b(auto_?(?:open|exec|exit|close|new)|document_(?:open|close|new|beforeclose|beforesave|contentcontrolonenter)|documentbeforeclose|documentchange|workbook_(?:open|activate|beforeclose|close|windowactivate|sheetactivate|addininstall)|worksheet_activate|app_(?:documentopen|workbookopen)|auto_ouvrir|\w+_(?:layout|painted|painting|onconnecting|beforenavigate2|navigatecomplete2|documentcomplete|downloadcomplete)|onslideshowpagechange|onslideshowterminate)\b\s*\(`)

// Calls with which a macro leaves its document.
var dangerous = regexp.MustCompile(`(?i)(wscript\.shell|\bshell\s*[\( "]|shell\.application|shellexecute[aw]?\b|shellexecuteex|urldownloadtofile[aw]?\b|msxml2\.(?:server)?xmlhttp|microsoft\.xmlhttp|winhttp\.winhttprequest|internetexplorer\.application|adodb\.stream|scripting\.filesystemobject|\bfilesystemobject\b|winmgmts:|win32_process|createprocess[aw]?\b|virtualalloc(?:ex)?\b|writeprocessmemory|rtlmovememory|createthread\b|createremotethread|queueuserapc|enumsystemlanguagegroups|\bcmd(?:\.exe)?\s*/c|powershell|\bpwsh\b|mshta|rundll32|regsvr32|certutil|bitsadmin|cscript|wscript\.exe|schtasks|regwrite|\bexecuteexcel4macro\b|getobject\s*\(\s*"(?:new:|winmgmts|script:)|macscript\s*\(|applescripttask|\bddeinitiate\b|environ\s*\$?\s*\(\s*"(?:temp|appdata|public)|callbyname\b.{0,80}\brun\b|\bopen\b[^\n]{1,200}\bfor\s+(?:binary|output)\b)`)

// fewHide is from how many pieces of hidden text on a module counts as written
// to be unreadable.
const fewHide = 25

var chrCalls = regexp.MustCompile(`(?i)\bchrw?\$?\s*\(`)

// concat are string pieces that are joined at once: "Wscr" & "ipt.Sh" & "ell".
var concat = regexp.MustCompile(`"[ \t]*(?:&|\+)[ \t]*(?:_\r?\n[ \t]*)?"`)

// macro judges the source of all macros of a document.
func (r *reader) macro(source []byte) {
	if len(bytes.TrimSpace(source)) == 0 {
		return
	}
	r.code("vba", source)
	if !hasProcedure.Match(source) {
		return // Attributes of the empty modules that every workbook with a project has.
	}
	plain := concat.ReplaceAll(source, nil)
	auto, calls := names(autoExec, plain), names(dangerous, plain)
	hidden := len(chrCalls.FindAllIndex(plain, 1000))
	if rev := strings.ToLower(string(reverse(plain[:min(len(plain), 1<<20)]))); calls == "" && (strings.Contains(rev, "llehs.tpircsw") || strings.Contains(rev, "llehsrewop")) {
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

var hasProcedure = regexp.MustCompile(`(?im)^[ \t]*(?:(?:public|private|friend|static)[ \t]+)*(?:sub|function|property|declare)\b`)

// names lists what a pattern hits, each once, in lower case.
func names(re *regexp.Regexp, b []byte) string {
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

func reverse(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[len(b)-1-i] = c
	}
	return out
}

// vbaSource is the source in a stream that is a module of a VBA project; nil: it
// is none. MS-OVBA §2.3.4.3: the source starts with its attributes.
func vbaSource(stream []byte) []byte {
	i := bytes.Index(stream, []byte("\x00Attribut"))
	if i < 3 {
		return nil
	}
	return decompressVBA(stream[i-3:], maxMacro)
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
