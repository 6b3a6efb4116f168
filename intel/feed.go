package intel

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mailward/policy"
)

// FeedConfig is one source that is read again and again.
type FeedConfig struct {
	Name         string // source of its indicators
	Type         string
	URL          string
	Key          string // a secret: never logged, also where it stands in the URL as {key}
	Interval     time.Duration
	Class        policy.Class  // where the feed says none
	Confidence   int           // where the feed says none
	Expiry       time.Duration // after an indicator was seen last
	AllowPrivate bool          // the server may have an address of a network of ours
	Sightings    bool          // MISP: hits are told

	most  int64         // bytes of one run; 0: feedMost. Only tests set it, as the next
	limit time.Duration // for one run; 0: feedTime
}

// The types of feeds.
const (
	TypeList      = "list"          // a value a line, as of OpenPhish
	TypeCSV       = "csv"           // with a column named value
	TypeURLhaus   = "urlhaus"       // CSV of abuse.ch
	TypeBazaar    = "malwarebazaar" // CSV of abuse.ch
	TypeThreatFox = "threatfox"     // CSV of abuse.ch
	TypeOpenPhish = "openphish"     // a URL a line
	TypeRansom    = "ransomware"    // victims that ransomware.live has heard of
	TypeSTIX      = "stix"          // a bundle of STIX 2.1
	TypeWarning   = "warninglist"   // of MISP: what is harmless
	TypeMISP      = "misp"
	TypeTAXII     = "taxii"
)

// FeedTypes lists all types.
func FeedTypes() []string {
	return []string{TypeList, TypeCSV, TypeURLhaus, TypeBazaar, TypeThreatFox, TypeOpenPhish, TypeRansom, TypeSTIX, TypeWarning, TypeMISP, TypeTAXII}
}

const (
	feedMost      = 256 << 20       // bytes of all answers of one run
	feedRowsMost  = 2_000_000       // of one run, which holds them in memory
	feedTime      = 5 * time.Minute // for one run
	feedHeaders   = 30 * time.Second
	feedUserAgent = "Mailward (threat intelligence)" // Go's own is blocked by some
)

// errFeed is a failure in words that may be shown: it never holds a URL or key.
type errFeed struct {
	text  string
	code  string        // for programs
	alarm bool          // somebody has to look at it
	after time.Duration // the server said not to come back before; 0: nothing
}

func (e *errFeed) Error() string { return e.text }

// Codes of failures.
const (
	CodeDenied      = "not_authorised"
	CodeLimited     = "asked_too_often"
	CodeNotAFeed    = "not_a_feed" // a web page, an error in place of the answer, or nothing
	CodeCut         = "cut"
	CodeTooMuch     = "too_much"
	CodePrivate     = "private_address"
	CodeRedirect    = "redirected"
	CodeShrunk      = "shrunk"
	CodeStatus      = "status"
	CodeTimeout     = "timeout"
	CodeUnreachable = "unreachable"
	CodeNotStored   = "not_stored"
	CodeStopped     = "stopped"
)

func feedError(code, format string, args ...any) error {
	return &errFeed{text: fmt.Sprintf(format, args...), code: code}
}

func feedAlarm(code, format string, args ...any) error {
	return &errFeed{text: fmt.Sprintf(format, args...), code: code, alarm: true}
}

// shownError is what the record says of a failure.
func shownError(err error) *errFeed {
	var known *errFeed
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, errPrivate):
		return &errFeed{text: errPrivate.Error(), code: CodePrivate, alarm: true}
	case errors.Is(err, context.Canceled):
		return &errFeed{text: "the process that read it was stopped", code: CodeStopped}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &errFeed{text: "no answer in time", code: CodeTimeout}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &errFeed{text: "the answer broke off: what is known stays", code: CodeCut}
	case errors.As(err, &dns):
		return &errFeed{text: "the name of the server is not found", code: CodeUnreachable}
	case errors.As(err, &certificate):
		return &errFeed{text: "the certificate of the server does not hold", code: CodeUnreachable, alarm: true}
	}
	return &errFeed{text: "the server cannot be reached", code: CodeUnreachable}
}

var errPrivate = errors.New("its server has an address of a private network, and allow_private is not set")

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598; private networks over the internet use it too

// special are networks that are not of the world, beside those that netip knows
// (RFC 6890). Through some of them a private address can be reached.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), carrierNAT, netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2002::/16"),
}

// mayDial says whether a feed may be at an address. What is local to a link is
// never one: clouds answer there with the keys of the machine.
func mayDial(address string, allowPrivate bool) bool {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return false
	}
	a := ap.Addr().Unmap()
	if allowPrivate && (a.IsLoopback() || a.IsPrivate() || carrierNAT.Contains(a)) {
		return true
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(special, func(n netip.Prefix) bool { return n.Contains(a) })
}

// client reads one feed.
type client struct {
	cfg  FeedConfig
	http *http.Client
	read int64 // bytes
}

// newClient returns a client that only connects to where feeds may be. The
// address is checked when it is dialled, so that no answer of DNS gets past it.
func newClient(cfg FeedConfig) *client {
	d := &net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		if !mayDial(address, cfg.AllowPrivate) {
			return errPrivate
		}
		return nil
	}}
	t := &http.Transport{DialContext: d.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: feedHeaders, DisableKeepAlives: true}
	return &client{cfg: cfg, http: &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		// Elsewhere the key would go along, and somebody else would say what is bad.
		same := r.URL.Host == via[0].URL.Host && r.URL.Scheme == via[0].URL.Scheme
		moved := cfg.Type == TypeOpenPhish && cfg.Key == "" && r.URL.Scheme == "https" && r.URL.Host == openPhishHost
		if len(via) > 3 || !same && !moved {
			return feedAlarm(CodeRedirect, "it redirects to another server, which is not followed: set the new URL")
		}
		return nil
	}}}
}

// openPhishHost is where the free feed of OpenPhish redirects to.
const openPhishHost = "raw.githubusercontent.com"

// do sends a request and returns the answer where its status is one of those
// that the caller knows.
func (c *client) do(ctx context.Context, method, address string, body io.Reader, header map[string]string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, feedError(CodeUnreachable, "its URL cannot be used")
	}
	r.Header.Set("User-Agent", feedUserAgent)
	for k, v := range header {
		if v != "" {
			r.Header.Set(k, v)
		}
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if s := resp.StatusCode; s/100 == 2 || s == http.StatusNotModified {
		return resp, nil
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case 401, 403:
		return nil, feedAlarm(CodeDenied, "the server answers %d: the key is not accepted", resp.StatusCode)
	case 429:
		return nil, &errFeed{text: "the server answers 429: it is asked too often", code: CodeLimited, after: retryAfterOf(resp.Header.Get("Retry-After"))}
	}
	return nil, feedError(CodeStatus, "the server answers %d", resp.StatusCode)
}

// retryAfterOf reads Retry-After (RFC 9110 §10.2.3). More than a day is not
// believed.
func retryAfterOf(s string) time.Duration {
	wait := time.Duration(0)
	if n, err := strconv.Atoi(s); err == nil {
		wait = time.Duration(min(max(n, 0), 86_400)) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		wait = max(0, time.Until(t))
	}
	return min(wait, 24*time.Hour)
}

// body reads an answer up to what is left of the run's bytes.
func (c *client) body(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	most := cmp.Or(c.cfg.most, feedMost)
	b, err := io.ReadAll(io.LimitReader(resp.Body, most-c.read+1))
	if c.read += int64(len(b)); c.read > most {
		return nil, feedAlarm(CodeTooMuch, "it has more than %d MiB", most>>20)
	}
	return b, err
}

// address is the feed's URL with its key.
func (c *client) address() string {
	return strings.ReplaceAll(c.cfg.URL, "{key}", url.PathEscape(c.cfg.Key))
}

// answer is what one run has read.
type answer struct {
	list      []Indicator
	gone      []Value // no longer bad
	refused   int
	unchanged bool
	complete  bool // all that the feed has, so that less than before means something
	etag      string
	modified  string
	cursor    string
	warning   *warninglist // in place of indicators
}

// rows is how much a feed has said.
func (a answer) rows() int64 {
	if a.warning != nil {
		return int64(len(a.warning.entries))
	}
	return int64(len(a.list))
}

// fetch reads a feed from where the last run has ended.
func (c *client) fetch(ctx context.Context, last feedState, now time.Time) (answer, error) {
	switch c.cfg.Type {
	case TypeMISP:
		return c.fetchMISP(ctx, last, now)
	case TypeTAXII:
		return c.fetchTAXII(ctx, last, now)
	}
	return c.fetchFile(ctx, last, now)
}

// take checks what a feed says of one value and keeps what can be used.
func (a *answer) take(i Indicator, cfg FeedConfig, now time.Time) {
	if i.Class == "" {
		i.Class = cfg.Class
	}
	if i.Confidence < 0 {
		i.Confidence = cfg.Confidence
	}
	if err := i.fill(now, cfg.Expiry); err != nil {
		if !errors.Is(err, errExpired) {
			a.refused++
		}
		return
	}
	a.list = append(a.list, i)
}

// Feeds runs all feeds. Any number of processes may: the database gives each run
// to one of them.
type Feeds struct {
	store *Store
	cfg   []FeedConfig
	log   *slog.Logger
}

// NewFeeds returns the feeds of a configuration.
func NewFeeds(s *Store, cfg []FeedConfig, log *slog.Logger) *Feeds {
	s.lists = nil
	for _, c := range cfg {
		if c.Type == TypeWarning {
			s.lists = append(s.lists, c.Name)
		}
	}
	return &Feeds{store: s, cfg: cfg, log: log}
}
