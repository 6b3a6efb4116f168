package policy

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func filePart(path, name, kind string) Part {
	return Part{Path: path, Name: name, TrueType: kind, ContentType: "application/octet-stream", Disposition: "attachment", SHA256: "sha of " + path, Size: 10}
}

func settings(s SandboxSettings) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestForSandbox(t *testing.T) {
	t.Parallel()
	exe := filePart("1.2", "a.bin", "application/vnd.microsoft.portable-executable")
	docx := filePart("1.3", "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document")
	macro := filePart("1.3.4", "word/vbaProject.bin", "application/x-ole-storage")
	pdf := filePart("1.5", "a.pdf", "application/pdf")
	text := Part{Path: "1.1", ContentType: "text/html", TrueType: "text/html", SHA256: "t", Size: 5}
	suspects := func(part string) []Finding {
		return []Finding{{Engine: "yara", Name: "r", Class: Suspicious, Part: part}}
	}
	for name, tt := range map[string]struct {
		types []string
		rep   Report
		want  []string
	}{
		"a program, whatever its name":        {nil, Report{Parts: []Part{text, exe}}, []string{"1.2"}},
		"a script by its name":                {nil, Report{Parts: []Part{filePart("1.2", "a.JS", "text/plain")}}, []string{"1.2"}},
		"a document without macros":           {nil, Report{Parts: []Part{docx}}, nil},
		"a document with macros":              {nil, Report{Parts: []Part{docx, macro}}, []string{"1.3", "1.3.4"}},
		"an old document may have some":       {nil, Report{Parts: []Part{filePart("1.2", "a.doc", "application/msword")}}, []string{"1.2"}},
		"a PDF":                               {nil, Report{Parts: []Part{pdf}}, nil},
		"a PDF with a finding":                {nil, Report{Parts: []Part{pdf}, Findings: []Finding{{Engine: "yara", Name: "PDF_JavaScript", Part: "1.5"}}}, []string{"1.5"}},
		"any PDF, where wanted":               {[]string{KindPDF}, Report{Parts: []Part{pdf, exe}}, []string{"1.5"}},
		"nothing wanted":                      {[]string{}, Report{Parts: []Part{exe}}, nil},
		"nothing wanted, but it is suspected": {[]string{}, Report{Parts: []Part{exe, pdf}, Findings: suspects("1.2")}, []string{"1.2"}},
		"what is in it is suspected":          {[]string{}, Report{Parts: []Part{filePart("1.2", "a.zip", "application/zip")}, Findings: suspects("1.2.1")}, []string{"1.2"}},
		"the text of the mail is no file":     {[]string{KindHTML}, Report{Parts: []Part{text}, Findings: suspects("1.1")}, nil},
		"the same twice":                      {nil, Report{Parts: []Part{exe, exe}}, []string{"1.2"}},
		"an empty one":                        {nil, Report{Parts: []Part{{Path: "1.2", Name: "a.exe", SHA256: "e"}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := Policy{}
			if tt.types != nil {
				p.Sandbox = settings(SandboxSettings{Types: tt.types})
			}
			var got []string
			for _, part := range p.ForSandbox(tt.rep) {
				got = append(got, part.Path)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDecide_AsksTheSandbox(t *testing.T) {
	t.Parallel()
	up := []EngineAnswer{{Engine: "clamav", Answered: true}}
	silent := []EngineAnswer{{Engine: "clamav"}}
	script := Report{Engines: up, Parts: []Part{filePart("1.2", "run.sh", "text/x-shellscript")}}
	with := func(r Report, engines []EngineAnswer, classes ...Class) Report {
		r.Engines = engines
		for _, c := range classes {
			r.Findings = append(r.Findings, Finding{Engine: "clamav", Name: "n", Class: c})
		}
		return r
	}
	never := Recipient{Policy: Policy{Domain: "x.example", Sandbox: settings(SandboxSettings{Types: []string{}})}}
	for name, tt := range map[string]struct {
		rep    Report
		to     Recipient
		absent bool
		want   Action
		alt    Action
		why    string
	}{
		"clean with a script":            {script, Recipient{}, false, Hold, Deliver, `"run.sh"`},
		"spam with a script":             {with(script, up, Spam), Recipient{}, false, Hold, Tag, "run first"},
		"no sandbox":                     {script, Recipient{}, true, Deliver, "", "deliver"},
		"a policy that does not want it": {script, never, false, Deliver, "", "deliver"},
		"malware needs no sandbox":       {with(script, up, Malware), Recipient{}, false, Quarantine, "", "quarantine"},
		"suspicious text":                {with(Report{}, up, Suspicious), Recipient{}, false, Quarantine, "", "nothing in it is a file"},
		// What the sandbox likes would go out, though clamd has not seen it.
		"an engine is silent": {with(script, silent), Recipient{}, false, Defer, "", "no answer from clamav"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(Input{Report: tt.rep, Recipients: []Recipient{tt.to}, SandboxConfigured: !tt.absent})
			if r := d.Recipients[0]; r.Action != tt.want || r.Action == Hold && r.Else != tt.alt || !strings.Contains(r.Why, tt.why) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestAfterSandbox(t *testing.T) {
	t.Parallel()
	up := []EngineAnswer{{Engine: "clamav", Answered: true}}
	suspicious := []Finding{{Engine: "yara", Name: "n", Class: Suspicious, Part: "1.2"}}
	parts := []Part{filePart("1.2", "run.sh", "text/x-shellscript")}
	on := func(what string) Policy { return Policy{Sandbox: settings(SandboxSettings{OnTimeout: what})} }
	for name, tt := range map[string]struct {
		findings []Finding
		engines  []EngineAnswer
		p        Policy
		v        SandboxVerdict
		want     Action
	}{
		"malicious":                               {nil, up, Policy{}, SandboxMalicious, Quarantine},
		"malicious, whatever the policy":          {nil, up, Policy{Actions: map[Class]Action{Malware: Deliver}}, SandboxMalicious, Quarantine},
		"suspicious":                              {suspicious, up, Policy{}, SandboxSuspicious, Quarantine},
		"clean":                                   {suspicious, up, Policy{}, SandboxClean, Deliver},
		"clean, always asked":                     {nil, up, Policy{}, SandboxClean, Deliver},
		"clean, but the policy is another now":    {suspicious, up, Policy{Actions: map[Class]Action{Suspicious: Quarantine}}, SandboxClean, Quarantine},
		"clean, but somebody found malware since": {append(suspicious, Finding{Engine: "clamav", Name: "m", Class: Malware}), up, Policy{}, SandboxClean, Quarantine},
		"clean, but an engine was silent":         {suspicious, []EngineAnswer{{Engine: "clamav"}}, Policy{}, SandboxClean, Quarantine},
		"late":                                    {suspicious, up, Policy{}, NoVerdict, Quarantine},
		"late, delivered":                         {suspicious, up, on(TimeoutDeliver), NoVerdict, Deliver},
		"late, kept":                              {suspicious, up, on(TimeoutKeep), NoVerdict, Hold},
	} {
		t.Run(name, func(t *testing.T) {
			got := AfterSandbox(Input{Report: Report{Findings: tt.findings, Engines: tt.engines, Parts: parts}, Recipients: []Recipient{{Address: "a@x.example", Policy: tt.p}}, SandboxConfigured: true}, tt.v)
			if got[0].Action != tt.want || got[0].Why == "" {
				t.Errorf("%+v", got[0])
			}
		})
	}
}

// Entries are heard as on arrival; they lift nothing that the sandbox says.
func TestAfterSandbox_Entries(t *testing.T) {
	t.Parallel()
	spam, strict := Finding{Engine: "rspamd", Name: "n", Class: Suspicious}, Policy{Actions: map[Class]Action{Suspicious: Quarantine}, Sandbox: settings(SandboxSettings{OnTimeout: TimeoutDeliver})}
	allow := entry(t, Entry{Kind: EntryAllow, Match: MatchDomain, Value: "partner.example", Classes: []Class{Suspicious}})
	block := entry(t, Entry{Kind: EntryBlock, Match: MatchDomain, Value: "partner.example"})
	elsewhere := entry(t, Entry{Kind: EntryAllow, Match: MatchDomain, Value: "partner.example", Classes: []Class{Suspicious}, Domain: "other.example"})
	malware := Finding{Engine: "clamav", Name: "m", Class: Malware}
	for name, tt := range map[string]struct {
		found   []Finding
		entries []Entry
		proven  bool
		v       SandboxVerdict
		want    Action
	}{
		"no entry":                         {[]Finding{spam}, nil, true, SandboxClean, Quarantine},
		"an allow":                         {[]Finding{spam}, []Entry{allow}, true, SandboxClean, Deliver},
		"an allow, no verdict in time":     {[]Finding{spam}, []Entry{allow}, true, NoVerdict, Deliver},
		"an allow, the sender is not sure": {[]Finding{spam}, []Entry{allow}, false, SandboxClean, Quarantine},
		"an allow for others":              {[]Finding{spam}, []Entry{elsewhere}, true, SandboxClean, Quarantine},
		"an allow, but malicious":          {[]Finding{spam}, []Entry{allow}, true, SandboxMalicious, Quarantine},
		"an allow, but suspicious there":   {[]Finding{spam}, []Entry{allow}, true, SandboxSuspicious, Quarantine},
		"an allow, but malware":            {[]Finding{spam, malware}, []Entry{allow}, true, SandboxClean, Quarantine},
		"a block":                          {nil, []Entry{block}, true, SandboxClean, Quarantine},
		"a block and an allow":             {[]Finding{spam}, []Entry{allow, block}, true, SandboxClean, Quarantine},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Report: Report{Findings: tt.found, Engines: []EngineAnswer{{Engine: "clamav", Answered: true}}, Parts: []Part{filePart("1.2", "run.sh", "text/x-shellscript")}},
				Auth: Auth{Author: "partner.example", Authenticated: tt.proven, Wanted: "reject", Domain: "partner.example"}, Mail: Mail{From: []string{"a@partner.example"}},
				Entries: NewEntrySet(tt.entries), SandboxConfigured: true, Recipients: []Recipient{{Address: "a@x.example", Domain: Domain{Name: "x.example"}, Policy: strict}}}
			if got := AfterSandbox(in, tt.v)[0]; got.Action != tt.want {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestWorstVerdict(t *testing.T) {
	t.Parallel()
	for want, list := range map[SandboxVerdict][]SandboxVerdict{
		SandboxClean: {SandboxClean, SandboxClean}, SandboxMalicious: {NoVerdict, SandboxMalicious, SandboxClean}, SandboxSuspicious: {SandboxClean, NoVerdict, SandboxSuspicious},
		NoVerdict: {SandboxClean, NoVerdict},
	} {
		if got := WorstVerdict(list...); got != want {
			t.Errorf("%v: %s, want %s", list, got, want)
		}
	}
	if WorstVerdict() != NoVerdict {
		t.Error("nobody's verdict is one")
	}
}

func TestSandboxSettings(t *testing.T) {
	t.Parallel()
	s, err := ParseSandbox([]byte(`{"types": ["pdf"], "timeout": "20m", "on_timeout": "deliver"}`))
	if err != nil || !reflect.DeepEqual(s, &SandboxSettings{Types: []string{"pdf"}, Timeout: Duration(20 * time.Minute), OnTimeout: "deliver"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	if b, err := json.Marshal(s); err != nil || string(b) != `{"types":["pdf"],"timeout":"20m0s","on_timeout":"deliver"}` {
		t.Errorf("%s, %v", b, err)
	}
	for _, wrong := range []string{`{"types": ["floppy"]}`, `{"timeout": "1s"}`, `{"timeout": "soon"}`, `{"on_timeout": "pray"}`, `[1]`} {
		if s, err := ParseSandbox([]byte(wrong)); err == nil {
			t.Errorf("%s gives %+v", wrong, s)
		}
	}
	for _, none := range []string{"", "null", "{}"} {
		if s, err := ParseSandbox([]byte(none)); s != nil || err != nil {
			t.Errorf("%q gives %v, %v", none, s, err)
		}
	}
}
