package intel

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailward/policy"
)

var fuzzNow = time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)

func fuzzClient(typ string) *client {
	return newClient(FeedConfig{Name: "fuzz", Type: typ, URL: "https://feed.example", Class: policy.Phishing, Confidence: 80, Expiry: 240 * time.Hour})
}

// sound checks what no feed may do, whatever it says: bring in a value that is
// not in its one form, that is harmless, that counts for ever or from the future,
// or a text that the database does not take.
func sound(t *testing.T, a answer) {
	t.Helper()
	for _, i := range a.list {
		v, err := Parse(i.Kind, i.Value)
		if err != nil || v.Text != i.Value || len(i.Value) > maxValue || v.Harmless() != "" {
			t.Fatalf("%q became %q, %v, %s", i.Value, v.Text, err, v.Harmless())
		}
		if i.Confidence < 0 || i.Confidence > 100 || i.LastSeen.After(fuzzNow) || i.FirstSeen.After(i.LastSeen) || !i.ExpiresAt.After(fuzzNow) || i.ExpiresAt.After(fuzzNow.Add(lifeMost)) || i.Class == "" {
			t.Fatalf("%+v", i)
		}
		for _, s := range []string{plainText(i.Note), plainText(i.Reference), i.Value} {
			if strings.ContainsRune(s, 0) || s != strings.ToValidUTF8(s, "") || len(s) > maxValue {
				t.Fatalf("%q", s)
			}
		}
	}
}

func FuzzFeedFile(f *testing.F) {
	types := []string{TypeList, TypeCSV, TypeURLhaus, TypeBazaar, TypeThreatFox, TypeOpenPhish, TypeRansom, TypeSTIX, TypeWarning}
	for n, text := range []string{
		"hxxp://evil[.]example/a\n# x\n", "value,class,confidence,expires_at\nevil.example,malware,95,2026-12-24\n",
		"# id,dateadded,url\r\n\"1\",\"2026-11-26 09:00:00\",\"http://evil.example/a\"\r\n", "# \"first_seen_utc\",\"sha256_hash\"\n\"2026-11-26 09:00:00\", \"" + strings.Repeat("ab", 32) + "\"\n",
		"# \"first_seen_utc\",\"ioc_value\",\"ioc_type\",\"confidence_level\"\n\"2026-11-26 09:00:00\", \"[2001:db8::1]:80\", \"ip:port\", \"900\"\n# Number of entries: 1\n", "http://evil.example/%2e%2e/a?b#c\n",
		`[{"victim":"a","domain":"evil.example","discovered":"2026-11-26T09:00:00+00:00"}]`, `{"type":"bundle","objects":[{"type":"indicator","pattern":"[url:value = 'http://evil.example/\\'a']","confidence":900,"valid_until":"2027-01-01T00:00:00Z"}]}`,
		`{"name":"x","type":"cidr","list":["10.0.0.0/8","::/0"]}`,
	} {
		f.Add(uint8(n), []byte(text))
	}
	f.Fuzz(func(t *testing.T, n uint8, b []byte) {
		c := fuzzClient(types[int(n)%len(types)])
		var a answer
		err := c.file(b, &a, fuzzNow)
		sound(t, a)
		if err != nil {
			if shown := shownError(err); shown.text == "" || shown.code == CodeUnreachable {
				t.Fatalf("%v", err)
			}
			return
		}
		if a.rows() == 0 && a.refused > 0 && c.cfg.Type != TypeWarning {
			t.Fatal("a file of which nothing can be used was taken")
		}
		if a.warning != nil {
			h := &harmlessSet{exact: map[string]string{}, under: map[string]string{}}
			h.add(*a.warning)
			for _, e := range a.warning.entries {
				if n, err := netip.ParsePrefix(e); err == nil && a.warning.kind == "cidr" && h.has(Value{IP, n.Addr().String()}) == "" {
					t.Fatalf("%s is on the list and is not found", e)
				}
			}
		}
	})
}

func FuzzFeedMISP(f *testing.F) {
	f.Add([]byte(`{"type":"filename|sha256","value":"a|b|` + strings.Repeat("AB", 32) + `","to_ids":true,"timestamp":"1764150000","Event":{"id":"1","info":"x"}}`))
	f.Add([]byte(`{"type":"ip-dst|port","value":"198.51.100.7|80","to_ids":true,"deleted":true}`))
	f.Add([]byte(`{"type":"domain|ip","value":"evil.example|198.51.100.7","to_ids":true,"timestamp":"99999999999"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m mispAttribute
		if json.Unmarshal(b, &m) != nil {
			return
		}
		var a answer
		fuzzClient(TypeMISP).takeMISP(&a, m, fuzzNow)
		sound(t, a)
		if (m.Deleted || !m.ToIDs) && len(a.list) > 0 {
			t.Fatal("what is not for detection was taken")
		}
	})
}

func FuzzFeedSTIX(f *testing.F) {
	f.Add(`[domain-name:value = 'evil.example' OR ipv4-addr:value = '198.51.100.7']`, "2027-01-01T00:00:00Z")
	f.Add(`[url:value = 'http://evil.example/a' AND x:y = 1] FOLLOWEDBY [file:hashes.'SHA-256' = 'ab']`, "")
	f.Fuzz(func(t *testing.T, pattern, until string) {
		var a answer
		fuzzClient(TypeSTIX).takeSTIX(&a, stixIndicator{Type: "indicator", Pattern: pattern, ValidUntil: until}, fuzzNow)
		sound(t, a)
		if narrowing.MatchString(comparison.ReplaceAllString(pattern, "")) && len(a.list) > 0 {
			t.Fatal("a pattern with conditions was taken")
		}
	})
}
