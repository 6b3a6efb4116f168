package intel

import (
	"bytes"
	"context"
	"encoding/csv"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mailward/policy"
)

// fetchFile reads a feed that is one file.
func (c *client) fetchFile(ctx context.Context, last feedState, now time.Time) (answer, error) {
	resp, err := c.do(ctx, http.MethodGet, c.address(), nil, map[string]string{"If-None-Match": last.etag, "If-Modified-Since": last.modified, "Auth-Key": c.authKey()})
	if err != nil {
		return answer{}, err
	}
	if resp.StatusCode == http.StatusNotModified {
		resp.Body.Close()
		return answer{unchanged: true}, nil
	}
	b, err := c.body(resp)
	if err != nil {
		return answer{}, err
	}
	a := answer{complete: true, etag: resp.Header.Get("ETag"), modified: resp.Header.Get("Last-Modified")}
	b = bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	switch head := bytes.ToLower(b[:min(len(b), 200)]); {
	case len(b) == 0:
		return a, feedError("the answer is empty: what is known stays")
	case bytes.HasPrefix(head, []byte("<")):
		return a, feedError("the answer is a web page and no feed: what is known stays")
	case bytes.HasPrefix(head, []byte("{")) && bytes.Contains(head, []byte("query_status")):
		return a, &errFeed{text: "the answer is an error of the server: the key may be wrong", alarm: true}
	}
	if c.cfg.Type == TypeList {
		for line := range bytes.Lines(b) {
			if s := strings.TrimSpace(string(line)); s != "" && s[0] != '#' && s[0] != ';' {
				a.take(Indicator{Value: s, Confidence: -1}, c.cfg, now)
			}
			if len(a.list) > feedRowsMost {
				return a, feedError("it has more than %d rows", feedRowsMost)
			}
		}
		return a, nil
	}
	return a, c.csv(b, &a, now)
}

// authKey is sent where the key does not stand in the URL.
func (c *client) authKey() string {
	if strings.Contains(c.cfg.URL, "{key}") {
		return ""
	}
	return c.cfg.Key
}

// csv reads rows by the names of their columns. abuse.ch has those in the last
// comment before the first row.
func (c *client) csv(b []byte, a *answer, now time.Time) error {
	var head []string
	for line := range bytes.Lines(b) {
		text, comment := strings.CutPrefix(strings.TrimSpace(string(line)), "#")
		if !comment {
			if head == nil || c.cfg.Type == TypeCSV {
				head, b = fields(text), b[len(line):]
			}
			break
		}
		if strings.Contains(text, ",") {
			head = fields(text)
		}
		b = b[len(line):]
	}
	column := map[string]int{}
	for i, h := range head {
		column[strings.ToLower(strings.TrimSpace(h))] = i
	}
	row := map[string]func(get func(string) string) (Indicator, bool){TypeCSV: csvRow, TypeURLhaus: urlhausRow, TypeBazaar: bazaarRow, TypeThreatFox: threatfoxRow}[c.cfg.Type]
	need := map[string]string{TypeCSV: "value", TypeURLhaus: "url", TypeBazaar: "sha256_hash", TypeThreatFox: "ioc_value"}[c.cfg.Type]
	if _, ok := column[need]; !ok {
		return &errFeed{text: "it has no column named " + need, alarm: true}
	}
	r := csv.NewReader(bytes.NewReader(b))
	r.FieldsPerRecord, r.TrimLeadingSpace, r.LazyQuotes, r.Comment, r.ReuseRecord = -1, true, true, '#', true
	for {
		rec, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			a.refused++
			continue
		}
		i, ok := row(func(name string) string {
			at, ok := column[name]
			if !ok || at >= len(rec) {
				return ""
			}
			if v := strings.TrimSpace(rec[at]); v != "n/a" && v != "None" {
				return strings.Clone(v)
			}
			return ""
		})
		if !ok {
			continue
		}
		if a.take(i, c.cfg, now); len(a.list) > feedRowsMost {
			return feedError("it has more than %d rows", feedRowsMost)
		}
	}
}

func fields(line string) []string {
	r := csv.NewReader(strings.NewReader(strings.TrimSpace(line)))
	r.TrimLeadingSpace, r.LazyQuotes = true, true
	f, err := r.Read()
	if err != nil {
		return nil
	}
	return f
}

func csvRow(get func(string) string) (Indicator, bool) {
	i := Indicator{Value: get("value"), Kind: Kind(get("kind")), Class: policy.Class(get("class")), Confidence: -1, FirstSeen: readTime(get("first_seen")), LastSeen: readTime(get("last_seen")),
		ExpiresAt: readTime(get("expires_at")), Note: get("note"), Reference: get("reference")}
	if n, err := strconv.Atoi(get("confidence")); err == nil {
		i.Confidence = n
	}
	return i, i.Value != ""
}

func urlhausRow(get func(string) string) (Indicator, bool) {
	i := Indicator{Value: get("url"), Kind: URL, Class: policy.Malware, Confidence: -1, FirstSeen: readTime(get("dateadded")), LastSeen: readTime(get("last_online")), Reference: get("urlhaus_link"), Note: get("tags")}
	if i.LastSeen.IsZero() {
		i.LastSeen = i.FirstSeen
	}
	return i, i.Value != ""
}

func bazaarRow(get func(string) string) (Indicator, bool) {
	seen := readTime(get("first_seen_utc"))
	return Indicator{Value: get("sha256_hash"), Kind: SHA256, Class: policy.Malware, Confidence: -1, FirstSeen: seen, LastSeen: seen, Note: get("signature")}, get("sha256_hash") != ""
}

// threatfoxRow leaves out the names of sites that were broken into: only the one
// page there is bad.
func threatfoxRow(get func(string) string) (Indicator, bool) {
	kind, ok := map[string]Kind{"ip:port": IP, "domain": Domain, "url": URL, "sha256_hash": SHA256, "email": Email}[get("ioc_type")]
	if !ok || kind == Domain && (strings.EqualFold(get("is_compromised"), "true") || get("is_compromised") == "1") {
		return Indicator{}, false
	}
	i := Indicator{Value: get("ioc_value"), Kind: kind, Class: policy.Malware, Confidence: -1, FirstSeen: readTime(get("first_seen_utc")), LastSeen: readTime(get("last_seen_utc")),
		Note: get("malware_printable"), Reference: get("reference")}
	if i.LastSeen.IsZero() {
		i.LastSeen = i.FirstSeen
	}
	if n, err := strconv.Atoi(get("confidence_level")); err == nil {
		i.Confidence = n
	}
	return i, true
}
