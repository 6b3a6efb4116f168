package policy

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kinds of files that a policy may send to the sandbox.
const (
	KindExecutable  = "executable"   // programs, libraries and installers of any system
	KindScript      = "script"       // what an interpreter runs
	KindShortcut    = "shortcut"     // Windows shortcuts
	KindOfficeMacro = "office_macro" // documents with macros, and old binary ones, which may have them
	KindOffice      = "office"       // any office document
	KindPDFActive   = "pdf_active"   // PDF files that an engine has something to say about
	KindPDF         = "pdf"          // any PDF file
	KindDiskImage   = "disk_image"
	KindArchive     = "archive" // as a whole; what is in it is taken out and judged anyway
	KindHTML        = "html"    // attached pages, not the text of a mail
)

// SandboxKinds lists the kinds that a policy may name.
func SandboxKinds() []string {
	return []string{KindExecutable, KindScript, KindShortcut, KindOfficeMacro, KindOffice, KindPDFActive, KindPDF, KindDiskImage, KindArchive, KindHTML}
}

// What is done with a mail when the sandbox gives no verdict in time.
const (
	TimeoutQuarantine = "quarantine"
	TimeoutDeliver    = "deliver"
	TimeoutKeep       = "keep" // stays held until a person decides
)

// Bounds of a sandbox's time, for a policy.
const (
	minSandboxTime = time.Minute
	maxSandboxTime = 24 * time.Hour
)

// SandboxSettings is what a policy says of the sandbox. Where nothing is set up
// they do nothing.
type SandboxSettings struct {
	// Types are the kinds of files that are always sent there, also in a mail that
	// no engine minds. An empty list sends only what is held as suspicious; nil is
	// as [DefaultSandbox] has it.
	Types []string `json:"types,omitzero" required:"false"`
	// Timeout is how long a mail waits for the verdict, from its arrival. 1m to
	// 24h; 0 is as [DefaultSandbox] has it.
	Timeout Duration `json:"timeout,omitzero" required:"false"`
	// OnTimeout is what is done without a verdict: quarantine, deliver or keep.
	OnTimeout string `json:"on_timeout,omitempty" enum:"quarantine,deliver,keep"`
}

// Duration is a time span that is written as in 15m.
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a time such as 15m", b)
	}
	*d = Duration(v)
	return nil
}

// DefaultSandbox is what is in force where no policy says anything else.
func DefaultSandbox() SandboxSettings {
	return SandboxSettings{Types: []string{KindExecutable, KindScript, KindShortcut, KindOfficeMacro, KindPDFActive}, Timeout: Duration(15 * time.Minute), OnTimeout: TimeoutQuarantine}
}

// sandbox is what is in force for one policy.
func (p Policy) sandbox() SandboxSettings {
	s := DefaultSandbox()
	own, err := ParseSandbox(p.Sandbox)
	if own == nil || err != nil {
		return s // One that does not parse is refused before it is stored.
	}
	if own.Types != nil {
		s.Types = own.Types
	}
	if own.Timeout != 0 {
		s.Timeout = own.Timeout
	}
	if own.OnTimeout != "" {
		s.OnTimeout = own.OnTimeout
	}
	return s
}

// SandboxTimeout is how long a mail of this policy waits for a verdict.
func (p Policy) SandboxTimeout() time.Duration { return time.Duration(p.sandbox().Timeout) }

// Check reports what cannot work.
func (s *SandboxSettings) Check() error {
	for _, t := range s.Types {
		if !slices.Contains(SandboxKinds(), t) {
			return &InvalidError{"sandbox.types", fmt.Sprintf("must hold %s, has %q", strings.Join(SandboxKinds(), ", "), t)}
		}
	}
	if d := time.Duration(s.Timeout); d != 0 && (d < minSandboxTime || d > maxSandboxTime) {
		return &InvalidError{"sandbox.timeout", fmt.Sprintf("must be %s to %s, is %s", minSandboxTime, maxSandboxTime, d)}
	}
	if !slices.Contains([]string{"", TimeoutQuarantine, TimeoutDeliver, TimeoutKeep}, s.OnTimeout) {
		return &InvalidError{"sandbox.on_timeout", fmt.Sprintf("must be quarantine, deliver or keep, is %q", s.OnTimeout)}
	}
	return nil
}

// encode writes settings as a policy keeps them.
func (s SandboxSettings) encode() json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return nil // strings and a time: it cannot be
	}
	return b
}

// ParseSandbox reads settings as they are stored; nothing gives nil.
func ParseSandbox(b []byte) (*SandboxSettings, error) {
	if len(b) == 0 || string(b) == "null" || string(b) == "{}" {
		return nil, nil
	}
	var s SandboxSettings
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, &InvalidError{"sandbox", "must be like {\"types\": [\"executable\"], \"timeout\": \"15m\", \"on_timeout\": \"quarantine\"}"}
	}
	return &s, s.Check()
}

// ForSandbox lists the parts of a mail that the sandbox is asked about, each
// content once: those of the kinds that the policy names, and any other file
// that is why the mail is suspicious.
func (p Policy) ForSandbox(rep Report) []Part {
	var out []Part
	seen := map[string]bool{}
	for _, part := range rep.Parts {
		if part.SHA256 == "" || part.Size == 0 || seen[part.SHA256] || !p.sends(part, rep) {
			continue
		}
		seen[part.SHA256] = true
		out = append(out, part)
	}
	return out
}

// AnyKind is a policy that sends every file that a sandbox could run, for a
// person who asks.
func AnyKind() (Policy, error) {
	b, err := json.Marshal(SandboxSettings{Types: SandboxKinds()})
	return Policy{Sandbox: b}, err
}

func (p Policy) sends(part Part, rep Report) bool {
	for _, k := range kindsOf(part, rep) {
		if slices.Contains(p.sandbox().Types, k) {
			return true
		}
	}
	return isFile(part) && flagged(part, rep, Suspicious)
}

// isFile tells what a recipient would open from the text of the mail itself.
func isFile(p Part) bool {
	return p.Name != "" || p.Disposition == "attachment" || !strings.HasPrefix(p.ContentType, "text/")
}

// flagged says whether a finding is about this part, or about what is in it.
func flagged(part Part, rep Report, class Class) bool {
	return slices.ContainsFunc(rep.Findings, func(f Finding) bool {
		return (class == "" || f.Class == class) && (f.Part == part.Path || strings.HasPrefix(f.Part, part.Path+"."))
	})
}

// extensions tells kinds by names, since an interpreter goes by them too.
var extensions = map[string][]string{
	KindExecutable: {".exe", ".dll", ".scr", ".com", ".cpl", ".sys", ".msi", ".msp", ".msix", ".appx", ".jar", ".apk", ".elf", ".so", ".pif", ".ocx"},
	KindScript: {".js", ".jse", ".vbs", ".vbe", ".wsf", ".wsh", ".hta", ".ps1", ".psm1", ".bat", ".cmd", ".sh", ".py", ".pl", ".rb", ".php", ".lua",
		".sct", ".wsc", ".reg", ".msc", ".inf", ".application", ".settingcontent-ms", ".xll", ".chm"},
	KindShortcut:    {".lnk", ".url", ".library-ms", ".search-ms"},
	KindOfficeMacro: {".docm", ".dotm", ".xlsm", ".xltm", ".xlam", ".xlsb", ".pptm", ".potm", ".ppsm", ".ppam", ".doc", ".dot", ".xls", ".xlt", ".xla", ".ppt", ".pps", ".slk", ".iqy", ".rtf"},
	KindOffice:      {".docx", ".dotx", ".xlsx", ".xltx", ".pptx", ".potx", ".ppsx", ".odt", ".ods", ".odp", ".one"},
	KindPDF:         {".pdf"},
	KindDiskImage:   {".iso", ".img", ".vhd", ".vhdx", ".udf", ".dmg"},
	KindArchive:     {".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".cab", ".ace", ".arj", ".lzh", ".z"},
	KindHTML:        {".htm", ".html", ".shtml", ".xhtml", ".mht", ".mhtml", ".svg"},
}

// types tells kinds by the bytes: the beginnings of media types.
var types = map[string][]string{
	KindExecutable: {"application/vnd.microsoft.portable-executable", "application/x-elf", "application/x-executable", "application/x-sharedlib", "application/x-object",
		"application/x-mach-binary", "application/x-ms-installer", "application/jar", "application/java-archive", "application/vnd.android.package-archive", "application/x-java-applet"},
	KindScript:   {"text/x-shellscript", "text/x-python", "text/x-perl", "text/x-php", "text/x-lua", "text/x-tcl", "text/x-ruby", "text/javascript", "application/javascript", "text/vbscript", "text/x-msdos-batch", "text/x-vba"},
	KindShortcut: {"application/x-ms-shortcut"},
	// Nobody but a rule says whether an old document has macros: it may.
	KindOfficeMacro: {"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint", "application/x-ole-storage", "application/vnd.ms-word.document.macroenabled", "text/rtf", "application/rtf"},
	KindOffice:      {"application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.opendocument.", "application/onenote"},
	KindPDF:         {"application/pdf"},
	KindDiskImage:   {"application/x-iso9660-image", "application/x-apple-diskimage"},
	KindArchive:     {"application/zip", "application/x-7z-compressed", "application/x-rar-compressed", "application/x-tar", "application/gzip", "application/x-bzip2", "application/x-xz", "application/vnd.ms-cab-compressed"},
	KindHTML:        {"text/html", "image/svg+xml"},
}

// kindsOf says what a part is, by its bytes and by its name: either is enough,
// since either may lie.
func kindsOf(part Part, rep Report) []string {
	if !isFile(part) {
		return nil
	}
	ext := strings.ToLower(path.Ext(part.Name))
	var kinds []string
	for _, k := range SandboxKinds() {
		byType := slices.ContainsFunc(types[k], func(t string) bool { return strings.HasPrefix(strings.ToLower(part.TrueType), t) })
		if byType || ext != "" && slices.Contains(extensions[k], ext) {
			kinds = append(kinds, k)
		}
	}
	switch {
	case slices.Contains(kinds, KindOfficeMacro):
		kinds = append(kinds, KindOffice)
	case slices.Contains(kinds, KindOffice) && hasMacros(part, rep):
		kinds = append(kinds, KindOfficeMacro)
	}
	if slices.Contains(kinds, KindPDF) && flagged(part, rep, "") {
		kinds = append(kinds, KindPDFActive)
	}
	return kinds
}

// hasMacros says whether the sidecar found a macro project in a document.
func hasMacros(part Part, rep Report) bool {
	return slices.ContainsFunc(rep.Parts, func(p Part) bool {
		return strings.HasPrefix(p.Path, part.Path+".") && strings.EqualFold(path.Base(p.Name), "vbaProject.bin")
	})
}

// askSandbox changes the action for one copy by whether a sandbox would tell
// more: hold needs one, and files of some kinds are sent there first.
func (in Input) askSandbox(r Recipient, o *outcome) {
	a, from := o.Action, r.Policy.Origin(LineSandbox)
	if a != Hold && a != Deliver && a != Tag {
		return
	}
	if !in.SandboxConfigured {
		if a == Hold {
			o.Action = Quarantine
			o.Why += "; no sandbox is set up, so it is quarantined"
			o.explain(say(Origin{}, "sandbox.absent"))
		}
		return
	}
	wider := in.widen(&r, o)
	parts := r.Policy.ForSandbox(in.Report)
	if len(parts) == 0 {
		if a == Hold {
			o.Action = Quarantine
			o.Why += "; nothing in it is a file that a sandbox could run, so it is quarantined"
			o.explain(say(from, "sandbox.nothing"))
		}
		return
	}
	if a != Hold {
		o.Action, o.Else = Hold, a
		why := say(from, "sandbox.first", plainArg(describe(parts[0])), originArg(from))
		if wider != nil {
			why = wider.say("reaction.sandbox")
		}
		o.Why += "; but " + why.Text
		o.explain(why)
	}
	o.Detonate, o.Wait = parts, r.Policy.SandboxTimeout()
}

func describe(p Part) string {
	if p.Name != "" {
		return strconv.Quote(p.Name)
	}
	return p.Path
}

// SandboxVerdict is what the sandbox says of all files of a mail together.
type SandboxVerdict string

// The verdicts. NoVerdict is a state of its own: late, broken or not asked is
// neither clean nor malicious.
const (
	SandboxClean      SandboxVerdict = "clean"
	SandboxSuspicious SandboxVerdict = "suspicious"
	SandboxMalicious  SandboxVerdict = "malicious"
	NoVerdict         SandboxVerdict = "none"
)

// WorstVerdict is the verdict on several files: one that is not clean, or not
// known, is enough.
func WorstVerdict(list ...SandboxVerdict) SandboxVerdict {
	for _, v := range []SandboxVerdict{SandboxMalicious, SandboxSuspicious, NoVerdict} {
		if slices.Contains(list, v) {
			return v
		}
	}
	if len(list) == 0 {
		return NoVerdict
	}
	return SandboxClean
}

// AfterSandbox decides anew on copies that were held, by the policies of now:
// what was found on arrival is in the report, and allow and block entries are
// heard as then. They lift nothing that the sandbox says. Deliver lets a copy go, Hold
// leaves it to a person, anything else keeps it.
func AfterSandbox(in Input, v SandboxVerdict) []RecipientDecision {
	// What the author's domain wants was done on arrival: copies that it keeps
	// were never held. Who the author is still tells whether an entry counts.
	in.Auth.Wanted = ""
	in.Report.Findings = slices.DeleteFunc(slices.Clone(in.Report.Findings), func(f Finding) bool { return f.Engine == "mailauth" })
	out, hits := make([]RecipientDecision, 0, len(in.Recipients)), in.Entries.find(in)
	for _, r := range in.Recipients {
		rd := in.decideFor(r, hits)
		policyNow := rd.Why
		action, why := afterSandbox(in, r, rd, v)
		rd.Action = action
		if rd.because(why); why.ID == "sandbox.policy" {
			rd.Why += ": " + policyNow
		}
		out = append(out, rd.RecipientDecision)
	}
	return out
}

func afterSandbox(in Input, r Recipient, o outcome, v SandboxVerdict) (Action, Line) {
	from, now := r.Policy.Origin(LineSandbox), o.Action
	goes := now == Hold || now == Deliver || now == Tag
	switch {
	case v == SandboxMalicious || v == SandboxSuspicious:
		return Quarantine, say(Origin{}, "sandbox.bad", plainArg(string(v)))
	case len(in.Report.Failed()) > 0:
		return Quarantine, say(Origin{}, "sandbox.engines", plainArg(strings.Join(in.Report.Failed(), ", ")))
	case v == SandboxClean && goes:
		return Deliver, say(Origin{}, "sandbox.clean")
	case v == SandboxClean:
		return Quarantine, say(Origin{}, "sandbox.policy", actionArg(now), classArg(o.Class))
	}
	switch on := r.Policy.sandbox().OnTimeout; {
	case on == TimeoutKeep:
		return Hold, say(from, "sandbox.keep", originArg(from))
	case on == TimeoutDeliver && goes:
		return Deliver, say(from, "sandbox.deliver", originArg(from))
	}
	return Quarantine, say(from, "sandbox.quarantine", originArg(from))
}
