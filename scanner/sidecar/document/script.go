package document

import (
	"bytes"
	"regexp"
	"strings"
)

// maxScript bounds what is looked at of a script or a text that may be one.
const maxScript = 1 << 20

var (
	urlLine     = regexp.MustCompile(`(?im)^\s*(URL|IconFile|WorkingDirectory|BaseURL|IconIndex|Command)\s*=\s*(\S[^\r\n]*)`)
	desktopExec = regexp.MustCompile(`(?im)^\s*(?:Exec|TryExec)\s*=\s*(\S[^\r\n]*)`)
	queryWeb    = regexp.MustCompile(`(?i)^\s*WEB\s*[\r\n]+\s*\d+\s*[\r\n]+\s*(\S+)`)
	csvFormula  = regexp.MustCompile(`(?im)(?:^|[,;\t"])\s*[=+\-@][^\r\n"]*?\b(cmd|powershell|mshta|rundll32|regsvr32|msexcel|wscript|cscript)\s*\|[^\r\n]*!`)
	slkCall     = regexp.MustCompile(`(?im)^[^\r\n]*;E(?:[^\r\n]*\b)?(EXEC|CALL|REGISTER|FOPEN)\s*\(`)
	rdpAddress  = regexp.MustCompile(`(?im)^\s*(?:full|alternate full) address:s:\s*([^\r\n]+)`)
	shareIn     = regexp.MustCompile(`(?i)(?:[=">\s]|^)(?:\\\\|file:(?://|\\\\))[a-z0-9][a-z0-9.-]*(?:@[a-z0-9]+)?[\\/][^\s"<>]*`)
	simpleURL   = regexp.MustCompile(`(?i)<(?:url|simpleLocation)>\s*(?:<url>)?\s*([^<\s][^<]*)`)
	deepLink    = regexp.MustCompile(`(?is)<DeepLink>(.+?)</DeepLink>`)
	crumb       = regexp.MustCompile(`(?i)(?:crumb=location:|location:)([^&<"\s]+)`)
	scriptCall  = regexp.MustCompile(`(?i)(wscript\.shell|activexobject|createobject\s*\(|shell\.application|powershell|invoke-expression|\biex\b|downloadstring|downloadfile|frombase64string|certutil|bitsadmin|mshta|rundll32|regsvr32|msxml2\.|winhttp|adodb\.stream|winmgmts|start-process|invoke-webrequest|net\.webclient|curl\s+-|wget\s|add-mppreference|eval\s*\(|executeglobal)`)
)

// scriptExt are files that Windows or another system runs at a double click, by
// what they are.
var scriptExt = map[string]string{
	".js": "a script", ".jse": "an encoded script", ".vbs": "a script", ".vbe": "an encoded script", ".wsf": "a script", ".wsh": "the settings of a script", ".ps1": "a script of PowerShell",
	".psm1": "a script of PowerShell", ".bat": "a batch file", ".cmd": "a batch file", ".hta": "a web page that runs as a program", ".sct": "a script", ".wsc": "a script", ".sh": "a script", ".command": "a script", ".py": "a script", ".pyw": "a script",
	".reg": "settings for the registry", ".msc": "a console of Windows", ".inf": "settings that Windows installs", ".jnlp": "a start file for Java", ".xbap": "a program for the browser", ".scpt": "a script",
	".appref-ms": "a link that installs a program", ".application": "a file that installs a program", ".appinstaller": "a file that installs a program",
}

// script judges text files that make a program do something, by name and by what
// is in them.
func (r *reader) script() error {
	ext, b := r.file.ext(), r.file.Data[:min(len(r.file.Data), maxScript)]
	b = plainText(b)
	b, err := r.decoded(b, ext)
	if err != nil {
		return err
	}
	switch ext {
	case ".url", ".website":
		r.internetShortcut(b)
	case ".scf":
		r.internetShortcut(b)
	case ".desktop":
		if m := desktopExec.FindSubmatch(b); m != nil {
			r.suspect("Script.Desktop", 8, "it is a starter of a Linux desktop, which runs: "+clip(string(m[1]), 120), "command", string(m[1]))
		}
	case ".iqy", ".rqy", ".oqy":
		if m := queryWeb.FindSubmatch(b); m != nil {
			r.link(string(m[1]), "")
			r.suspect("Script.WebQuery", 8, "it makes Excel fetch data from an address, which may start programs: "+clip(string(m[1]), 120), "target", string(m[1]))
		}
	case ".slk", ".csv", ".dif", ".tsv":
		r.table(b)
	case ".settingcontent-ms":
		if m := deepLink.FindSubmatch(b); m != nil {
			r.suspect("Script.SettingContent", 9, "it is a link to a setting of Windows that starts a program: "+clip(string(m[1]), 120), "command", string(m[1]))
		}
	case ".rdp":
		if m := rdpAddress.FindSubmatch(b); m != nil {
			r.suspect("Script.RemoteDesktop", 8, "it opens the desktop of another computer, which may then use this one's disks and clipboard: "+clip(string(m[1]), 120), "target", string(m[1]))
		}
	case ".theme", ".ini", ".inf", ".asx", ".wax", ".wvx", ".wmx", ".m3u", ".m3u8", ".pls", ".jnlp", ".application", ".udl", ".ica":
		if m := shareIn.Find(b); m != nil {
			r.suspect("Shortcut.Share", 8, "it fetches something from a network share: "+clip(string(m), 120), "target", string(m))
		}
		if what, ok := scriptExt[ext]; ok {
			r.plainScript(what, b)
		}
		if ext == ".theme" {
			r.windowsLink(b)
		}
	case ".library-ms", ".search-ms", ".searchconnector-ms", ".themepack", ".contact":
		r.windowsLink(b)
	default:
		if what, ok := scriptExt[ext]; ok {
			r.plainScript(what, b)
		}
	}
	return nil
}

// decoded is a text with its encoded scripts as they were written.
func (r *reader) decoded(b []byte, ext string) ([]byte, error) {
	if !bytes.Contains(b, scriptStart) || ext != ".jse" && ext != ".vbe" && !bytes.Contains(b, scriptEnd) {
		return b, nil
	}
	plain := decodeScript(b)
	if err := r.took(len(plain)); err != nil {
		return nil, err
	}
	r.suspect("Script.Encoded", 8, "it holds a script that is encoded so that nobody can read it")
	r.code(scriptLanguage(ext), plain)
	return plain, nil
}

// scriptLanguage is that of an encoded script.
func scriptLanguage(ext string) string {
	if strings.HasPrefix(ext, ".vb") {
		return "vbscript"
	}
	return "javascript"
}

// plainText is UTF-16 as one byte a character, since scripts of Windows come in
// both.
func plainText(b []byte) []byte {
	if bytes.HasPrefix(b, []byte("\xff\xfe")) {
		return []byte(utf16String(b[2:]))
	}
	if bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return []byte(utf16BE(b[2:]))
	}
	return b
}

func (r *reader) plainScript(what string, b []byte) {
	calls := names(scriptCall, b)
	if calls != "" {
		r.suspect("Script.Calls", 9, "it is "+what+" that starts programs or fetches something: "+calls, "calls", calls)
		return
	}
	r.sign("Script", 2, "it is "+what)
}

// internetShortcut judges .url and .scf: their icon alone, from a share, gives
// the password hash away of whoever looks at the folder.
func (r *reader) internetShortcut(b []byte) {
	for _, m := range urlLine.FindAllSubmatch(b, 20) {
		key, v := strings.ToLower(string(m[1])), strings.TrimSpace(string(m[2]))
		switch {
		case IsShare(v) || strings.HasPrefix(strings.ToLower(v), "file:") && strings.Contains(v, "@"):
			r.suspect("Shortcut.Share", 8, "it is a shortcut to a file on a network share: "+clip(v, 120), "target", v, "field", key)
		case key == "url" && (strings.HasPrefix(strings.ToLower(v), "file:") || commands.MatchString(v) && !isWeb(v)):
			r.suspect("Shortcut.Program", 8, "it is a shortcut to a program or file: "+clip(v, 120), "target", v)
		case key == "url":
			r.link(v, "")
			r.sign("Shortcut.Web", 1, "it is a shortcut to an address", "target", v)
		}
	}
}

// table judges text that a spreadsheet opens.
func (r *reader) table(b []byte) {
	if m := csvFormula.FindSubmatch(b); m != nil && containsAny(b, "|") {
		r.suspect("Document.DDE.Command", 10, "a cell in it starts another program: "+clip(strings.TrimSpace(string(m[0])), 120), "command", string(m[0]))
	}
	if bytes.HasPrefix(b, []byte("ID;P")) {
		if m := slkCall.FindSubmatch(b); m != nil {
			r.suspect("Document.XLM.AutoExec", 9, "an Excel 4 macro in it reaches out of the workbook", "calls", string(m[1]))
		}
	}
}

// windowsLink judges files that show a place elsewhere as a folder.
func (r *reader) windowsLink(b []byte) {
	var target string
	if m := simpleURL.FindSubmatch(b); m != nil {
		target = string(m[1])
	} else if m := crumb.FindSubmatch(b); m != nil {
		target = strings.ReplaceAll(strings.ReplaceAll(string(m[1]), "%5C", `\`), "%5c", `\`)
	}
	if IsShare(target) || isWeb(target) {
		r.suspect("Shortcut.RemoteFolder", 9, "it shows a folder of a foreign server as if it were one of this computer: "+clip(target, 120), "target", target)
	}
}

// chm notes a help file of Windows, which is web pages that run as programs.
func (r *reader) chm() error {
	r.suspect("Type.Help", 7, "it is a help file of Windows, whose pages may start programs")
	return nil
}
