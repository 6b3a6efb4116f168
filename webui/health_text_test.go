package webui

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailward/health"
)

// oldChanges has changes that were kept before their texts had names, and one of a
// later version.
type oldChanges struct{ *health.Monitor }

func (m oldChanges) Changes(ctx context.Context, name string, most int) ([]health.Changed, error) {
	list, err := m.Monitor.Changes(ctx, name, most)
	return append(list, health.Changed{At: testNow, State: health.Up, Reason: "ClamAV answers; <b>so</b> it was said."},
		health.Changed{At: testNow, State: health.Up, Reason: "Said by a later version.", Says: health.Text{{ID: "clamav.not_known_yet"}}}), err
}

// TestHealth_SpeaksGerman: what the failure of a component means is said in the
// language of the page, with its times and numbers; what was kept in English is shown
// and marked.
func TestHealth_SpeaksGerman(t *testing.T) {
	t.Parallel()
	var down error
	var now atomic.Int64
	now.Store(testNow.UnixNano())
	since := testNow.Add(-75 * time.Hour)
	mon := health.New([]health.Component{
		health.ClamAV(func(context.Context) (health.EngineInfo, error) {
			return health.EngineInfo{Version: "1.4.3", Database: "27000", DatabaseTime: since}, down
		}, nil, func() time.Time { return testNow }),
		health.NextHop("mx.ours.example", func(context.Context, string) (health.Hop, error) {
			return health.Hop{Warnings: append(health.HostUnused("b:25"), health.CertificateEnds("a:25", testNow.AddDate(0, 0, 3))...)}, nil
		}),
		health.HTTP(health.Service{Name: "http:intel", Title: "Ransomware intel", URL: "://", Meaning: health.Plain("Words of the operator.")}),
		{Name: "blobs", Title: "Store of held mail", Group: "stores", Check: func(context.Context) health.Result { panic("boom") }},
	}, slog.New(slog.DiscardHandler), health.WithClock(func() time.Time { return time.Unix(0, now.Load()) }))
	mon.Check(t.Context())
	down = errors.New("dial tcp: connection refused")
	s := newSite(t)
	s.pages.monitor = oldChanges{mon}
	now.Store(now.Load() + int64(health.ShareFor)) // a run is shared that long
	german := []string{"Accept-Language", "de"}
	page := s.get(t, "/health", german...)
	for _, want := range []string{
		"ClamAV antwortet nicht. Es wird keine Mail angenommen, weil nichts ungeprüft durchgeht: Absender hören 451 und versuchen es später erneut, nichts geht verloren. Prüfen Sie, ob clamd läuft und clamav.address stimmt.",
		"Der nächste Server mx.ours.example begrüßt uns. Mail fließt. b:25 wird derzeit nicht benutzt. Das Zertifikat von a:25 endet am " + testNow.AddDate(0, 0, 3).Format("02.01.2006") + ".",
		"Dienst intel: Die Adresse ist keine",
		"Die Prüfung ist abgestürzt (Ablage zurückgehaltener Mail)",
		`lang="en">dial tcp: connection refused`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, no := range []string{"does not answer", "No mail is accepted", "greets us"} {
		if strings.Contains(page, no) {
			t.Errorf("the German page says %q", no)
		}
	}
	for path, want := range map[string][]string{
		"/":              {"ClamAV antwortet nicht. Es wird keine Mail angenommen"},
		"/health/clamav": {"<td>ClamAV antwortet nicht.", `<td lang="en">ClamAV answers; &lt;b&gt;so&lt;/b&gt; it was said.`, `<td lang="en">Said by a later version.`},
	} {
		page := s.get(t, path, german...)
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("%s lacks %q", path, w)
			}
		}
	}
	if page := s.get(t, "/health/clamav"); !strings.Contains(page, "ClamAV does not answer. No mail is accepted") || strings.Contains(page, `<td lang="en">`) {
		t.Error("the English page does not speak English")
	}
}

// manyDown has components that fail in all ways there are.
type manyDown struct {
	fakeMonitor
	list []health.Status
}

func (m manyDown) Latest() health.Report {
	return health.Report{At: testNow, State: health.Down, Components: m.list}
}

func (m manyDown) Check(context.Context) health.Report { return m.Latest() }

// TestHealth_OneSentenceForEachEffect: the banner does not say of each component again
// that mail flows.
func TestHealth_OneSentenceForEachEffect(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	st := func(name string, state health.State, effect health.Effect) health.Status {
		return health.Status{Name: name, Title: name, State: state, Effect: effect, Since: testNow, CheckedAt: testNow, Reason: name + " failed. Mail flows. Do something.", Detail: "dial tcp: refused"}
	}
	m := manyDown{list: []health.Status{st("redis", health.Down, health.Weakens), st("clamav", health.Down, health.Stops), st("dnsbl:bl.example", health.NotAuthorised, health.Weakens),
		st("disk", health.Degraded, health.Stops), st("clock", health.Unknown, health.Weakens), st("smtp", health.Up, health.Stops), st("scanner", health.Down, health.Stops)}}
	s.pages.monitor = m
	banner := func(lang string) string {
		_, text, _ := strings.Cut(s.get(t, "/health", "Accept-Language", lang), `<p class="lead">`)
		text, _, _ = strings.Cut(text, "<section")
		return text
	}
	for lang, want := range map[string][]string{
		"en": {"because of: ClamAV; Scanner.", "Out of order, without stopping mail: Redis; DNSBL bl.example.", "Working, but not as it should be: Disk.", "Nothing is known about: Clock."},
		"de": {"wegen: ClamAV; Scanner.", "Ausgefallen, ohne Mail aufzuhalten: Redis; ", "In Betrieb, aber nicht so, wie es sein soll: ", "Nichts bekannt ist über: "},
	} {
		got := banner(lang)
		for _, w := range want {
			if strings.Count(got, w) != 1 {
				t.Errorf("%s: the banner lacks %q:\n%s", lang, w, got)
			}
		}
		if strings.Contains(got, "Mail flows.") {
			t.Errorf("%s: the banner says of a component that mail flows", lang)
		}
	}
	// Each card says what its component means, and marks what is technical.
	page := s.get(t, "/health", "Accept-Language", "de")
	if strings.Count(page, "failed. Mail flows. Do something.") != len(m.list) || strings.Count(page, `Technische Einzelheit:</span> <span lang="en">dial tcp: refused</span>`) != 5 {
		t.Error("the cards do not say it all")
	}
	// What is alone is said in full.
	s.pages.monitor = manyDown{list: m.list[:1]}
	if got := banner("en"); !strings.Contains(got, "redis failed. Mail flows. Do something.") {
		t.Errorf("one component: %s", got)
	}
}

func TestHealthWord(t *testing.T) {
	t.Parallel()
	c, err := newCatalog()
	if err != nil {
		t.Fatal(err)
	}
	de, en := c.pick("de"), c.pick("en")
	de.zone, en.zone = time.UTC, time.UTC
	for arg, want := range map[string][2]string{
		"n:12345":                       {"12,345", "12.345"},
		"bytes:5368709120":              {"5.0 GiB", "5,0 GiB"},
		"span:1.5s":                     {"1.5 s", "1,5 s"},
		"span:75h":                      {"3 days", "3 Tage"},
		"ms:120":                        {"120 ms", "120 ms"},
		"day:2026-11-30":                {"30 Nov 2026", "30.11.2026"},
		"time:2026-11-30T08:05:00Z":     {"Mon 30 Nov 2026, 08:05:00 UTC", "Mo, 30.11.2026, 08:05:00 UTC"},
		"word:tsa":                      {"The time stamp authority", "Der Zeitstempeldienst"},
		`list:2:["a","b"]`:              {"a; b; and 2 more", "a; b; und 2 weitere"},
		"title:disk\tDisk":              {"Disk", "Datenträger"},
		"title:mine:x\tOf my own":       {"Of my own", "Of my own"},
		"span:of another version":       {"of another version", "of another version"},
		"a kind of later:and its value": {"and its value", "and its value"},
	} {
		kind, value, _ := strings.Cut(arg, ":")
		if got := [2]string{en.healthWord(kind, value), de.healthWord(kind, value)}; got != want {
			t.Errorf("%s: %q, want %q", arg, got, want)
		}
	}
}

var (
	factSet  = regexp.MustCompile(`Facts\["([a-z_0-9]+)"\]`)
	factMap  = regexp.MustCompile(`Facts: map\[string\]string\{([^}\n]*)\}`)
	factName = regexp.MustCompile(`"([a-z_0-9]+)":`)
)

// TestHealth_FactNames: each fact that a check tells of has a name in each language.
func TestHealth_FactNames(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../health/*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range factSet.FindAllStringSubmatch(string(src), -1) {
			names[m[1]] = true
		}
		for _, m := range factMap.FindAllStringSubmatch(string(src), -1) {
			for _, n := range factName.FindAllStringSubmatch(m[1], -1) {
				names[n[1]] = true
			}
		}
	}
	if len(names) < 30 {
		t.Fatalf("only %d facts were found in the checks: %v", len(names), names)
	}
	for _, lang := range []string{"en", "de"} {
		text, err := os.ReadFile("locales/" + lang + ".toml")
		if err != nil {
			t.Fatal(err)
		}
		for n := range names {
			if !strings.Contains(string(text), `"factname.`+n+`" = `) {
				t.Errorf("%s: the fact %q has no name", lang, n)
			}
		}
	}
}
