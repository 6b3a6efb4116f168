package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	proxyproto "github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"mailward/audit"
	"mailward/gateway/ledger"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/mailauth"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
)

// Times of the SMTP side.
const (
	// RFC 5321 §4.5.3.2.7: a server waits at least 5 minutes for the next command.
	commandTimeout = 5 * time.Minute
	// A client that sends a mail drop by drop gets this long for all of it.
	dataLimit = 30 * time.Minute
	// Postfix gives a before-queue proxy 100 s to answer; we end well before.
	handleLimit = 60 * time.Second
	// maxReceived is where a mail counts as looping (RFC 5321 §6.3).
	maxReceived = 50
)

// Scanner looks into a mail. A failure is an engine without an answer in the
// report, never an error: what is not known is not clean.
type Scanner interface {
	Scan(ctx context.Context, job scanner.Job) policy.Report
}

// AuthChecker finds out who sent a mail (SPF, DKIM).
type AuthChecker interface {
	Check(ctx context.Context, env message.Envelope, sp *message.Spool) mailauth.Result
}

// Config holds the gateway's settings.
type Config struct {
	Hostname          string
	Node              string
	MaxMessageSize    int64 // bytes
	MaxRecipients     int   // of one mail; default 1000
	MaxConnections    int   // of one listener; more wait to be taken; default 1000
	TLS               *tls.Config
	ProxyFrom         []netip.Prefix // clients that must send a PROXY header, and are believed
	SandboxConfigured bool
}

// Deps are the parts that the gateway works with.
type Deps struct {
	Log        *slog.Logger
	DB         *pg.DB
	Spooler    *message.Spooler
	Scanner    Scanner
	Policies   *policy.Store
	Ledger     *ledger.Ledger
	Quarantine *quarantine.Store
	Audit      *audit.Log
	Auth       AuthChecker           // may be nil: nothing is checked
	Metrics    prometheus.Registerer // may be nil
}

// Server takes mail in.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	hops    *hopPool
	metrics *metrics
	smtp    *smtp.Server
	base    context.Context // ends when the server is closed hard
	cancel  context.CancelFunc

	mu       sync.Mutex // guards sessions, closing
	sessions map[*session]bool
	closing  bool
}

// New returns a Server that listens to nothing yet.
func New(cfg Config, deps Deps) (*Server, error) {
	if cfg.Hostname == "" || cfg.MaxMessageSize < 1024 {
		return nil, fmt.Errorf("gateway: hostname %q and a message size of %d bytes do not work", cfg.Hostname, cfg.MaxMessageSize)
	}
	if cfg.MaxRecipients == 0 {
		cfg.MaxRecipients = 1000
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 1000
	}
	s := &Server{cfg: cfg, deps: deps, log: deps.Log, hops: newHopPool(cfg.Hostname), metrics: newMetrics(deps.Metrics), sessions: map[*session]bool{}}
	s.base, s.cancel = context.WithCancel(context.Background())
	srv := smtp.NewServer(smtp.BackendFunc(s.newSession))
	srv.Domain = cfg.Hostname
	srv.MaxRecipients = cfg.MaxRecipients
	// go-smtp refuses a mail of exactly this size.
	srv.MaxMessageBytes = cfg.MaxMessageSize + 1
	// 998 octets are the limit of RFC 5321 §4.5.3.1.6, which real mail breaks;
	// what is longer than this is refused.
	srv.MaxLineLength = 64 << 10
	srv.ReadTimeout = commandTimeout
	srv.WriteTimeout = time.Minute
	srv.TLSConfig = cfg.TLS
	srv.ErrorLog = smtpLog{s.log}
	s.smtp = srv
	return s, nil
}

// Serve takes connections until the server is shut down.
func (s *Server) Serve(l net.Listener) error {
	l = netutil.LimitListener(l, s.cfg.MaxConnections)
	if len(s.cfg.ProxyFrom) > 0 {
		l = &proxyproto.Listener{Listener: l, ReadHeaderTimeout: 10 * time.Second, ConnPolicy: s.proxyPolicy}
	}
	if err := s.smtp.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve SMTP on %s: %w", l.Addr(), err)
	}
	return nil
}

// proxyPolicy demands a PROXY header from the upstreams that are named, and
// refuses one from everybody else: it could claim any address.
func (s *Server) proxyPolicy(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	ap, err := netip.ParseAddrPort(o.Upstream.String())
	if err == nil {
		for _, p := range s.cfg.ProxyFrom {
			if p.Contains(ap.Addr().Unmap()) {
				return proxyproto.REQUIRE, nil
			}
		}
	}
	return proxyproto.REJECT, nil
}

// Shutdown stops taking mail, lets the transactions under way finish, and ends
// idle sessions with 421. After ctx ends it breaks off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for sess := range s.sessions {
		sess.hangUpIfIdle()
	}
	s.mu.Unlock()
	err := s.smtp.Shutdown(ctx)
	s.Close()
	if err != nil && !errors.Is(err, smtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("shut SMTP down: %w", err)
	}
	return nil
}

// Close breaks everything off at once.
func (s *Server) Close() {
	s.cancel()
	s.smtp.Close()
	s.hops.close()
}

// smtpLog sends go-smtp's own lines to our log.
type smtpLog struct{ log *slog.Logger }

func (l smtpLog) Printf(format string, v ...any) { l.log.Debug("smtp: " + fmt.Sprintf(format, v...)) }
func (l smtpLog) Println(v ...any)               { l.log.Debug("smtp: " + fmt.Sprint(v...)) }
