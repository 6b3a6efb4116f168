// Package bao talks to OpenBao, which holds the keys this program must use and
// should not have: those that sign mail, seal the audit log and wrap the keys of
// stored mail.
//
// A mail meets it where a domain's DKIM key lies in OpenBao, and where a blob is
// put into quarantine. It is a thin layer over OpenBao's own client: it logs in,
// keeps the token alive, bounds each call, and makes errors of which none can
// carry a secret. What trouble with OpenBao means is for the callers to decide.
package bao

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
	"sync"
	"time"

	"github.com/openbao/openbao/api/v2"
)

// Errors that callers tell apart. All others are plain trouble.
var (
	ErrDenied      = errors.New("bao: permission denied")
	ErrSealed      = errors.New("bao: sealed, or not ready")
	ErrNotFound    = errors.New("bao: not found")
	ErrConflict    = errors.New("bao: somebody else wrote first")
	ErrBadRequest  = errors.New("bao: request refused")
	ErrUnavailable = errors.New("bao: not reachable")
)

// Secret gives a secret when it is needed, so that a changed file is seen and
// no copy is kept.
type Secret func() (string, error)

// Config says where OpenBao is and who we are there.
type Config struct {
	Address   string // https://host:8200
	Namespace string
	// PlainHTTP lets the token travel in the clear to a host other than this
	// one. Default: false.
	PlainHTTP bool
	CACert    string // file with the CA's certificate; the system's CAs where empty

	RoleID, SecretID Secret // AppRole
	Token            Secret // instead of AppRole: a token that somebody else keeps alive

	MountAppRole string // Default: approle
	MountTransit string // Default: transit
	MountKV      string // Default: secret

	// Timeout bounds one call. Default: 5s, as a mail may wait for it.
	Timeout time.Duration
}

// Validate reports every setting that cannot work.
func (c Config) Validate() error {
	var errs []error
	u, err := url.Parse(c.Address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		errs = append(errs, errors.New("bao.address must be https://host:port"))
	case u.User != nil:
		errs = append(errs, errors.New("bao.address must not carry a password"))
	case u.Scheme == "http" && !c.PlainHTTP && !loopback(u.Hostname()):
		errs = append(errs, errors.New("bao.address is http: the token could be read on the way"))
	}
	appRole := c.RoleID != nil && c.SecretID != nil
	if appRole == (c.Token != nil) {
		errs = append(errs, errors.New("bao needs either role_id and secret_id, or token"))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("bao.timeout must be positive, is %v", c.Timeout))
	}
	return errors.Join(errs...)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		at    *string
		value string
	}{{&c.MountAppRole, "approle"}, {&c.MountTransit, "transit"}, {&c.MountKV, "secret"}} {
		if *d.at = strings.Trim(*d.at, "/"); *d.at == "" {
			*d.at = d.value
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	return c
}

// Client is a logged-in client. It may be used by many at once.
type Client struct {
	cfg Config
	log *slog.Logger
	now func() time.Time
	api *api.Client // carries the token
	out *api.Client // without a token, for login and health

	gate chan struct{} // held by the one who logs in; waiting for it ends with the context

	mu    sync.Mutex // guards token
	token tokenState
}

// New returns a Client. It connects to nothing; the first call logs in.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg.withDefaults(), log: log, now: time.Now, gate: make(chan struct{}, 1)}
	var err error
	if c.api, err = newAPI(c.cfg); err != nil {
		return nil, err
	}
	// Not a clone of the other: a clone loses the namespace.
	if c.out, err = newAPI(c.cfg); err != nil {
		return nil, err
	}
	return c, nil
}

func newAPI(cfg Config) (*api.Client, error) {
	// NewConfig reads no environment: a stray BAO_ADDR or BAO_TOKEN must not
	// send our secrets elsewhere.
	ac := api.NewConfig()
	if ac.Error != nil {
		return nil, fmt.Errorf("bao: set up the client: %w", ac.Error)
	}
	ac.Address, ac.Timeout = cfg.Address, cfg.Timeout
	// Callers know whether to repeat; a write must not be sent twice unseen. A
	// redirect could carry the token to another host.
	ac.MaxRetries, ac.DisableRedirects = 0, true
	if cfg.CACert != "" {
		if err := ac.ConfigureTLS(&api.TLSConfig{CACert: cfg.CACert}); err != nil {
			return nil, fmt.Errorf("bao: read the CA's certificate: %w", err)
		}
	}
	ac.HttpClient.Transport = bounded{ac.HttpClient.Transport}
	c, err := api.NewClient(ac)
	if err != nil {
		return nil, fmt.Errorf("bao: set up the client: %w", err)
	}
	c.ClearToken()
	if cfg.Namespace != "" {
		c.SetNamespace(cfg.Namespace)
	}
	return c, nil
}

// maxAnswer bounds what is read of an answer. The longest are data keys and
// wrapped keys, far below.
const maxAnswer = 4 << 20

// bounded cuts answers off.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = cut{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

type cut struct {
	io.Reader
	io.Closer
}

// Health is the state of the server.
type Health struct {
	Initialized bool   `json:"initialized"`
	Sealed      bool   `json:"sealed"`
	Standby     bool   `json:"standby"`
	Version     string `json:"version"`
}

// Ready says whether it can answer for keys.
func (h Health) Ready() bool { return h.Initialized && !h.Sealed }

// Health asks the server for its state, without a token.
func (c *Client) Health(ctx context.Context) (Health, error) {
	h, err := c.out.Sys().HealthWithContext(ctx)
	if err != nil {
		return Health{}, clean("ask for its health", err)
	}
	return Health{Initialized: h.Initialized, Sealed: h.Sealed, Standby: h.Standby, Version: h.Version}, nil
}

// clean makes an error that says what was tried and of what kind the trouble
// is. The server's own text is left out: it may repeat what was sent to it.
func clean(what string, err error) error {
	var re *api.ResponseError
	var ne net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, api.ErrSecretNotFound), errors.Is(err, ErrNotFound):
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	case errors.As(err, &re):
		return fmt.Errorf("%s: %w (status %d)", what, kind(re), re.StatusCode)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, context.DeadlineExceeded)
	case errors.As(err, &ne):
		return fmt.Errorf("%s: %w", what, ErrUnavailable)
	case errors.Is(err, errAnswer), errors.Is(err, ErrConflict), errors.Is(err, ErrDenied), errors.Is(err, ErrSealed), errors.Is(err, ErrUnavailable), errors.Is(err, ErrBadRequest):
		return fmt.Errorf("%s: %w", what, err) // made here, so clean already
	default:
		return fmt.Errorf("%s: %w: an answer that cannot be read", what, ErrUnavailable)
	}
}

// errAnswer is an answer that does not fit the question.
var errAnswer = errors.New("bao: an answer that does not fit")

func kind(re *api.ResponseError) error {
	switch re.StatusCode {
	case http.StatusForbidden, http.StatusUnauthorized:
		return ErrDenied
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return ErrBadRequest
	case http.StatusServiceUnavailable, http.StatusNotImplemented:
		return ErrSealed
	default:
		return ErrUnavailable
	}
}
