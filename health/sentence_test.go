package health

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var verbs = regexp.MustCompile(`%(?:\[(\d+)\])?s`)

// arguments are the numbers of the arguments that a format shows.
func arguments(format string) (list []int) {
	for i, m := range verbs.FindAllStringSubmatch(format, -1) {
		n := i + 1
		if m[1] != "" {
			n, _ = strconv.Atoi(m[1])
		}
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// TestSentences: every sentence is there in both languages with the same arguments,
// every place that says one gives it what it shows, and none is left over.
func TestSentences(t *testing.T) {
	t.Parallel()
	all := map[string]sentence{}
	for _, m := range []map[string]sentence{sentences, moreSentences} {
		for id, s := range m {
			if _, twice := all[id]; twice {
				t.Errorf("%s is there twice", id)
			}
			all[id] = s
			if s.en == "" || s.de == "" || s.en == s.de || strings.TrimSpace(s.en+s.de) != s.en+s.de {
				t.Errorf("%s is not said in both languages: %q, %q", id, s.en, s.de)
			}
			if !slices.Equal(arguments(s.en), arguments(s.de)) {
				t.Errorf("%s shows other arguments in German: %q, %q", id, s.en, s.de)
			}
		}
	}
	for name, s := range nouns {
		if s.en == "" || s.de == "" {
			t.Errorf("noun %q is not there in both languages", name)
		}
	}
	said, named := usedSentences(t)
	for id, counts := range said {
		s, ok := all[id]
		if !ok {
			t.Errorf("missing: %s", id)
		}
		for _, n := range counts {
			if n != len(arguments(s.en)) {
				t.Errorf("%s is given %d arguments and shows %d", id, n, len(arguments(s.en)))
			}
		}
	}
	for id := range all {
		if said[id] == nil {
			t.Errorf("unused: %s", id)
		}
	}
	for _, name := range named {
		if _, ok := nouns[name]; !ok {
			t.Errorf("missing noun: %s", name)
		}
	}
}

// usedSentences finds in the sources which sentences are said, with how many
// arguments, and which nouns are named.
func usedSentences(t *testing.T) (said map[string][]int, named []string) {
	t.Helper()
	said = map[string][]int{}
	names, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			first, ok := call.Args[0].(*ast.BasicLit)
			if !ok || first.Kind != token.STRING {
				return true
			}
			id, _ := strconv.Unquote(first.Value)
			switch called(call) {
			case "say", "and":
				said[id] = append(said[id], len(call.Args)-1)
			case "noun", "lookupFailed":
				named = append(named, id)
			}
			return true
		})
	}
	return said, named
}

func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// TestSentences_Lists: whatever a block list means with its answer is said in German.
func TestSentences_Lists(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("../gateway/limit/dnsbl_check.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(src), "func unavailable(")
	found := regexp.MustCompile(`return "(.+)"`).FindAllStringSubmatch(code, -1)
	if len(found) < 6 {
		t.Fatalf("only %d meanings found", len(found))
	}
	for _, m := range found {
		if _, ok := nouns[m[1]]; !ok {
			t.Errorf("missing: %q", m[1])
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	shout := func(kind, value string) string { return strings.ToUpper(kind) + "(" + value + ")" }
	tests := map[string]struct {
		text       Text
		en, de     string
		notThatLet bool
	}{
		"nothing":                        {nil, "", "", true},
		"one":                            {say("clamav.ok", span(90*time.Second)), "ClamAV answers; its signatures are 90 s old.", "ClamAV antwortet; die Signaturen sind SPAN(1m30s) alt.", false},
		"two":                            {say("openbao.sealed").with(Plain("Go on.")).and("openbao.sealed.do"), "OpenBao is sealed. Go on. Unseal it.", "OpenBao ist versiegelt. Go on. Entsiegeln Sie es.", false},
		"a list":                         {say("channels.some", several([]string{"a", "b:1", "c"}, 2)), "The last notification did not arrive on: a; b:1; and 1 more. Mail flows. Look under Alerts, Channels.", `Die letzte Benachrichtigung kam nicht an auf: LIST(1:["a","b:1"]). Mail fließt. Sehen Sie unter Alarme, Kanäle nach.`, false},
		"a verb in it":                   {say("answers_not", plain("100%!")), "100%! does not answer.", "100%! antwortet nicht.", false},
		"title":                          {say("works", titled("next_hop:[::1]:25", "Next hop [::1]:25")), "Next hop [::1]:25 works.", "TITLE(next_hop:[::1]:25\tNext hop [::1]:25): in Ordnung.", false},
		"of a later version":             {Text{{ID: "not.here.yet"}}, "", "", true},
		"with arguments of another one":  {Text{{ID: "clamav.ok"}, {ID: "clamav.ok", Args: []string{"n:1", "n:2"}}}, "", "", true},
		"a noun that has no translation": {say("dnsbl.trouble", plain("bl.example"), plain("127.255.255.1"), noun("words of their own")), "The list bl.example answers 127.255.255.1: words of their own.", "Die Liste bl.example antwortet 127.255.255.1: WORD(words of their own).", false},
	}
	for name, tt := range tests {
		raw, err := json.Marshal(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		var kept Text // as the history has it
		if err := json.Unmarshal(raw, &kept); err != nil {
			t.Fatal(err)
		}
		de, ok := kept.In("de", shout)
		if en := kept.String(); en != tt.en || de != tt.de || ok == tt.notThatLet {
			t.Errorf("%s: %q, %q, %v", name, en, de, ok)
		}
	}
}
