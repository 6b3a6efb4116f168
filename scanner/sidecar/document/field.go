package document

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var (
	ddeField  = regexp.MustCompile(`(?i)^\s*DDE(?:AUTO)?\b`)
	loadField = regexp.MustCompile(`(?i)^\s*(INCLUDETEXT|INCLUDEPICTURE|IMPORT|RD|LINK)\s+(?:[\w.]+\s+)?"?((?:https?|ftp|file):[^"\s]+|\\\\[^"\s]+)`)
	hyperlink = regexp.MustCompile(`(?i)^\s*HYPERLINK\s+(?:\\[a-z]\s+)*"([^"]+)"`)
	quoteCode = regexp.MustCompile(`(?i)\bQUOTE((?:\s+\d{1,3})+)`)
	digits    = regexp.MustCompile(`\d+`)
	// commands are programs that whoever attacks by a document starts.
	commands = regexp.MustCompile(`(?i)(\bcmd(?:\.exe)?\b|powershell|\bpwsh\b|mshta|rundll32|regsvr32|certutil|bitsadmin|[cw]script(?:\.exe)?\b|msiexec|wmic\b|forfiles|schtasks|installutil|msbuild|regasm|\bcurl(?:\.exe)?\b|hh\.exe|\\system32\\|conhost|pcalua|explorer\.exe|wsreset|\bnet\s+use\b|finger\.exe|ieexec|control\.exe|odbcconf|\bbash(?:\.exe)?\b|python(?:w)?(?:\.exe)?\b|\.(?:exe|scr|vbs|js|hta|bat|ps1|msi|dll|cpl)\b)`)
)

// programPath is a path that ends in one, or a command line.
var programPath = regexp.MustCompile(`(?i)(?:^|[\\/])(?:cmd|powershell|pwsh|mshta|rundll32|regsvr32|[cw]script|msiexec|certutil|bitsadmin|conhost|forfiles)\s+\S|\.(?:exe|scr|vb[es]|jse?|hta|bat|cmd|ps1|msi|dll|cpl|lnk|pif)(?:\s|$)`)

// field judges the instruction of a field of Word.
func (r *reader) field(code string) {
	// {QUOTE 67 77 68} spells CMD.
	if m := quoteCode.FindStringSubmatch(code); m != nil {
		var b []byte
		for _, n := range digits.FindAllString(m[1], 1000) {
			v := 0
			for _, d := range n {
				v = v*10 + int(d-'0')
			}
			b = append(b, byte(v))
		}
		code = strings.Replace(code, m[0], latin1(b), 1)
	}
	switch {
	case ddeField.MatchString(code):
		r.dde(code)
	case loadField.MatchString(code):
		m := loadField.FindStringSubmatch(code)
		r.remoteField(strings.ToUpper(m[1]), strings.ReplaceAll(m[2], `\\`, `\`))
	case hyperlink.MatchString(code):
		target := hyperlink.FindStringSubmatch(code)[1]
		r.link(target, "")
		r.startsProgram(target)
	}
}

// startsProgram judges a link that leads to no page: a click, or a pointer that is
// moved over it (PowerPoint), starts a program.
func (r *reader) startsProgram(target string) {
	t := strings.ToLower(strings.TrimSpace(target))
	if plain, err := url.PathUnescape(t); err == nil {
		t = plain
	}
	scheme, _, _ := strings.Cut(t, ":")
	switch {
	case slices.ContainsFunc(protocols, func(p string) bool { return strings.HasPrefix(t, p) }):
	case scheme == "http", scheme == "https", scheme == "mailto", scheme == "ftp", strings.HasPrefix(t, "#"), !programPath.MatchString(t):
		return
	}
	r.suspect("Document.ProgramLink", 8, "a link in it starts a program: "+clip(target, 120), "target", target)
}

// remoteField judges a field that takes something from elsewhere: a picture of
// the web is how newsletters are made, a share gives away who opens it.
func (r *reader) remoteField(kind, target string) {
	if kind == "INCLUDEPICTURE" && !IsShare(target) {
		r.sign("Document.RemoteImage", 0.5, "it loads a picture from the web when it is opened", "target", target)
		return
	}
	r.remoteObject(target, kind)
}

// dde judges a link to another program (DDE), by which documents start one.
func (r *reader) dde(code string) {
	if cmd := commands.FindString(code); cmd != "" {
		r.suspect("Document.DDE.Command", 10, "when it is opened, it starts another program: "+clip(strings.TrimSpace(code), 120), "command", code)
		return
	}
	r.sign("Document.DDE", 3, "it asks another program for data when it is opened", "field", code)
}

// IsShare says whether an address is a file of the network: a client that opens
// one sends the password hash of its user there.
func IsShare(target string) bool {
	t := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(target), `\`, "/"))
	t = strings.TrimPrefix(t, "mhtml:")
	if rest, ok := strings.CutPrefix(t, "file:"); ok {
		rest = strings.TrimLeft(rest, "/")
		return rest != "" && !(len(rest) > 1 && (rest[1] == ':' || rest[1] == '|')) && (strings.HasPrefix(t, "file://") && !strings.HasPrefix(t, "file:///") || strings.HasPrefix(t, "file:////"))
	}
	return strings.HasPrefix(t, "//")
}

// isWeb says whether an address leads to the web.
func isWeb(target string) bool {
	t := strings.ToLower(strings.TrimSpace(target))
	for _, p := range []string{"http:", "https:", "ftp:", "mhtml:", "ms-", "search-ms:", "script:"} {
		if strings.HasPrefix(t, p) {
			return true
		}
	}
	return false
}
