package intel

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailward/policy"
)

// fetchFile reads a feed that is one file.
func (c *client) fetchFile(ctx context.Context, last feedState, now time.Time) (answer, error) {
	header := map[string]string{"If-None-Match": last.etag, "If-Modified-Since": last.modified}
	if !strings.Contains(c.cfg.URL, "{key}") {
		header[c.keyHeader()] = c.cfg.Key
	}
	resp, err := c.do(ctx, http.MethodGet, c.address(), nil, header)
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
	return a, c.file(b, &a, now)
}

// file reads what one file says.
func (c *client) file(b []byte, a *answer, now time.Time) error {
	b = bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	switch {
	case len(b) == 0:
		return feedError(CodeNotAFeed, "the answer is empty: what is known stays")
	case b[0] == '<':
		return feedError(CodeNotAFeed, "the answer is a web page and no feed: what is known stays")
	}
	if err := errorInside(b); err != nil {
		return err
	}
	switch c.cfg.Type {
	case TypeList, TypeOpenPhish:
		return c.lines(b, a, now)
	case TypeSTIX:
		return c.bundle(b, a, now)
	case TypeRansom:
		return c.victims(b, a, now)
	case TypeWarning:
		var err error
		a.warning, err = readWarninglist(c.cfg.Name, b)
		return err
	}
	return c.csv(b, a, now)
}

// errorInside finds what abuse.ch answers with 200 in place of a feed.
func errorInside(b []byte) error {
	if b[0] != '{' || len(b) > 4096 {
		return nil
	}
	var says struct {
		Status string `json:"query_status"`
	}
	if err := json.Unmarshal(b, &says); err != nil || says.Status == "" {
		return nil
	}
	if slices.Contains([]string{"unknown_auth_key", "unauthorized", "illegal_auth_key"}, says.Status) {
		return feedAlarm(CodeDenied, "the server answers %s: the key is not accepted", says.Status)
	}
	return feedAlarm(CodeNotAFeed, "the answer is an error of the server: %.40q", says.Status)
}

// lines reads a value a line.
func (c *client) lines(b []byte, a *answer, now time.Time) error {
	kind := Kind("")
	if c.cfg.Type == TypeOpenPhish {
		kind = URL
	}
	for line := range bytes.Lines(b) {
		if s := strings.TrimSpace(string(line)); s != "" && s[0] != '#' && s[0] != ';' {
			a.take(Indicator{Value: s, Kind: kind, Confidence: -1}, c.cfg, now)
		}
		if len(a.list) > feedRowsMost {
			return tooManyRows()
		}
	}
	return someRows(a)
}

func tooManyRows() error {
	return feedAlarm(CodeTooMuch, "it has more than %d rows", feedRowsMost)
}

// someRows refuses a file of which no line is what it should be: it is something
// else, whatever its server calls it.
func someRows(a *answer) error {
	if len(a.list) == 0 && a.refused > 0 {
		return feedError(CodeNotAFeed, "none of its %d rows can be used: what is known stays", a.refused)
	}
	return nil
}

// keyHeader is where a server wants the key that does not stand in the URL.
func (c *client) keyHeader() string {
	switch c.cfg.Type {
	case TypeURLhaus, TypeBazaar, TypeThreatFox:
		return "Auth-Key"
	case TypeRansom:
		return "X-API-KEY"
	}
	return "Authorization"
}

// header finds the names of columns. abuse.ch has those in the last comment before
// the first row.
func (c *client) header(b []byte) (column map[string]int, rest []byte) {
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
	column = map[string]int{}
	for i, h := range head {
		column[strings.ToLower(strings.TrimSpace(h))] = i
	}
	return column, b
}

// saidRows is how many rows ThreatFox says that it has, in its last line; else 0.
func (c *client) saidRows(b []byte) int {
	const last = "# Number of entries:"
	i := bytes.LastIndex(b, []byte(last))
	if i < 0 || c.cfg.Type != TypeThreatFox {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b[i+len(last):])))
	if err != nil {
		return 0
	}
	return n
}

// csv reads rows by the names of their columns.
func (c *client) csv(b []byte, a *answer, now time.Time) error {
	said := c.saidRows(b)
	column, b := c.header(b)
	row := map[string]func(get func(string) string) (Indicator, bool){TypeCSV: csvRow, TypeURLhaus: urlhausRow, TypeBazaar: bazaarRow, TypeThreatFox: threatfoxRow}[c.cfg.Type]
	need := map[string]string{TypeCSV: "value", TypeURLhaus: "url", TypeBazaar: "sha256_hash", TypeThreatFox: "ioc_value"}[c.cfg.Type]
	if _, ok := column[need]; !ok {
		return feedAlarm(CodeNotAFeed, "it has no column named %s", need)
	}
	r := csv.NewReader(bytes.NewReader(b))
	r.FieldsPerRecord, r.TrimLeadingSpace, r.LazyQuotes, r.Comment, r.ReuseRecord = -1, true, true, '#', true
	for read := 0; ; read++ {
		rec, err := r.Read()
		if err == io.EOF {
			if read < said-said/10 { // a quote that is not closed swallows a row or two
				return feedError(CodeCut, "it has %d rows and says that it has %d: what is known stays", read, said)
			}
			return someRows(a)
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
			return tooManyRows()
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
