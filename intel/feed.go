package intel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
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
}

// The types of feeds.
const (
	TypeList      = "list"          // a value a line, as of OpenPhish
	TypeCSV       = "csv"           // with a column named value
	TypeURLhaus   = "urlhaus"       // CSV of abuse.ch
	TypeBazaar    = "malwarebazaar" // CSV of abuse.ch
	TypeThreatFox = "threatfox"     // CSV of abuse.ch
	TypeMISP      = "misp"
	TypeTAXII     = "taxii"
)

// FeedTypes lists all types.
func FeedTypes() []string {
	return []string{TypeList, TypeCSV, TypeURLhaus, TypeBazaar, TypeThreatFox, TypeMISP, TypeTAXII}
}

const (
	feedMost      = 256 << 20       // bytes of all answers of one run
	feedRowsMost  = 5_000_000       // of one run
	feedTime      = 5 * time.Minute // for one run
	feedHeaders   = 30 * time.Second
	feedUserAgent = "Mailward (threat intelligence)" // Go's own is blocked by some
)

// errFeed is a failure in words that may be shown: it never holds a URL or key.
type errFeed struct {
	text  string
	alarm bool // somebody has to look at it
}

func (e *errFeed) Error() string { return e.text }

func feedError(format string, args ...any) error { return &errFeed{text: fmt.Sprintf(format, args...)} }

// shownError is what the record says of a failure.
func shownError(err error) (text string, alarm bool) {
	var known *errFeed
	switch {
	case errors.As(err, &known):
		return known.text, known.alarm
	case errors.Is(err, errPrivate):
		return errPrivate.Error(), true
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time", false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "the name of the server is not found", false
	}
	return "the server cannot be reached", false
}

var errPrivate = errors.New("its server has an address of a private network, and allow_private is not set")

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
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return errPrivate
		}
		a := ap.Addr().Unmap()
		if !cfg.AllowPrivate && (!a.IsGlobalUnicast() || a.IsPrivate()) {
			return errPrivate
		}
		return nil
	}}
	t := &http.Transport{DialContext: d.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: feedHeaders, DisableKeepAlives: true}
	return &client{cfg: cfg, http: &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		// Elsewhere the key would go along, and somebody else would say what is bad.
		if len(via) > 3 || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
			return &errFeed{text: "it redirects to another server, which is not followed: set the new URL", alarm: true}
		}
		return nil
	}}}
}

// do sends a request and returns the answer where its status is one of those
// that the caller knows.
func (c *client) do(ctx context.Context, method, address string, body io.Reader, header map[string]string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, feedError("its URL cannot be used")
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
		return nil, &errFeed{text: fmt.Sprintf("the server answers %d: the key is not accepted", resp.StatusCode), alarm: true}
	case 429:
		return nil, feedError("the server answers 429: it is asked too often")
	}
	return nil, feedError("the server answers %d", resp.StatusCode)
}

// body reads an answer up to what is left of the run's bytes.
func (c *client) body(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, feedMost-c.read+1))
	if c.read += int64(len(b)); c.read > feedMost {
		return nil, &errFeed{text: fmt.Sprintf("it has more than %d MiB", feedMost>>20), alarm: true}
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
	return &Feeds{store: s, cfg: cfg, log: log}
}
