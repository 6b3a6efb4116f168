package phishing

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	//go:embed symbols.yaml
	symbolsYAML []byte
	//go:embed data.yaml
	dataYAML []byte
)

// Symbol is one sign.
type Symbol struct {
	Name   string
	Weight float64
	Text   string
	// Modern signs can be shown by mail of our days alone, so that mail of other
	// days cannot say how often harmless mail shows them.
	Modern bool
}

// SymbolSet is all signs there are.
type SymbolSet struct{ Phishing, Spam []Symbol }

// Symbols returns all signs, as the embedded file has them.
func Symbols() SymbolSet {
	var s SymbolSet
	if err := strict(symbolsYAML, &s); err != nil {
		panic("phishing: symbols.yaml: " + err.Error()) // a test reads it too
	}
	return s
}

func strict(b []byte, v any) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	return d.Decode(v)
}

type brand struct {
	Words   []string
	Domains []string
	// Family is in the names of many domains under .de that are all the brand's own.
	Family string

	faces   []face   // of its domains
	foreign []string // endings under which its name may be somebody else's
	flat    []string // the words that are looked for within domains
}

// face is a host as it is compared with others; made once, since each host is
// held against every brand.
type face struct {
	host, registered string
	name, suffix     string // of what is registered
	eye, plain       string // the name as an eye takes it, and without marks
	flat             string // the whole host without hyphens
}

func faceOf(host string) face {
	f := face{host: host, registered: registrable(host)}
	f.name, f.suffix, _ = strings.Cut(f.registered, ".")
	f.eye, f.plain, f.flat = skeleton(f.name), plain(f.name), strings.ReplaceAll(plain(host), "-", "")
	return f
}

var flattened = strings.NewReplacer("=", "", " ", "", "&", "")

// prepare makes what hosts are compared with.
func (b *brand) prepare() {
	for _, d := range b.Domains {
		b.faces = append(b.faces, faceOf(d))
	}
	for _, w := range b.Words {
		// Short words are within many others.
		if w = flattened.Replace(w); len(w) >= 6 && !strings.Contains(w, ".") {
			b.flat = append(b.flat, w)
		}
	}
}

type data struct {
	Brands      []brand
	Shorteners  []string
	FreeHosting []string `yaml:"free_hosting"`
	Cheap       []string
	Open        []string
	Freemail    []string
	Trackers    []string
	Roles       []string
	Words       map[string][]string

	phrases *phrases // of Words
}

func load() (*data, error) {
	var d data
	if err := strict(dataYAML, &d); err != nil {
		return nil, fmt.Errorf("data.yaml: %w", err)
	}
	foreign := slices.Concat(d.Open, d.Cheap)
	for i := range d.Brands {
		d.Brands[i].prepare()
		d.Brands[i].foreign = foreign
	}
	for _, list := range d.Words {
		for i := range list {
			list[i] = plain(list[i])
		}
	}
	d.phrases = newPhrases(d.Words)
	return &d, nil
}

// under says whether host is one of the domains or below one.
func under(host string, domains []string) bool {
	for _, d := range domains {
		if host == d || strings.HasSuffix(host, d) && host[len(host)-len(d)-1] == '.' {
			return true
		}
	}
	return false
}

// own says whether a host is the brand's. A name that is known all over the world
// is registered in every country.
func (b *brand) own(host string) bool {
	return under(host, b.Domains) || b.national(host) || b.Family != "" && strings.HasSuffix(host, ".de") && strings.Contains(registrable(host), b.Family)
}

// national says whether a host is under one of the brand's names in a country.
func (b *brand) national(host string) bool {
	country := host[strings.LastIndexByte(host, '.')+1:]
	if len(country) != 2 {
		return false
	}
	for _, f := range b.faces {
		// The quick look first: hosts are held against every brand.
		if f.registered != f.host || !strings.Contains(host, f.name+".") {
			continue
		}
		if name, _, _ := strings.Cut(registrable(host), "."); name == f.name {
			return !under(host, b.foreign)
		}
	}
	return false
}

// named says whether text names the brand, as whole words.
func (b *brand) named(text string) (string, bool) {
	for _, w := range b.Words {
		exact, is := strings.CutPrefix(w, "=")
		if is && strings.Trim(text, " .!") == exact || !is && hasWord(text, w) {
			return exact, true
		}
	}
	return "", false
}

// hasWord finds word in text where no letter or digit stands before or after it.
func hasWord(text, word string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], word)
		if i < 0 {
			return false
		}
		i += at
		end := i + len(word)
		if (i == 0 || !alnum(text[i-1]) || !alnum(word[0])) && (end == len(text) || !alnum(text[end]) || !alnum(word[len(word)-1])) {
			return true
		}
		at = i + 1
	}
}

func alnum(b byte) bool { return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b >= 0x80 }
