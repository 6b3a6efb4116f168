package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	proxyproto "github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"

	"mailward/audit"
	"mailward/gateway/history"
	"mailward/gateway/hop"
	"mailward/gateway/ledger"
	"mailward/gateway/limit"
	"mailward/gateway/queue"
	"mailward/internal/message"
	"mailward/internal/pg"
	"mailward/mailauth"
	"mailward/policy"
	"mailward/quarantine"
	"mailward/scanner"
	"mailward/scanner/content"
)

// Times of the SMTP side.
const (
	// RFC 5321 §4.5.3.2.7: a server waits at least 5 minutes for the next command.
	commandTimeout = 5 * time.Minute
	stressTimeout  = 20 * time.Second
	// A client that sends a mail drop by drop gets this long for all of it.
	dataLimit = 30 * time.Minute
	// Postfix gives a before-queue proxy 100 s to answer; our own part ends well before.
	handleLimit = 60 * time.Second
	// answerLimit is until when a next hop that has the mail is waited for, where its
	// route gives it more than handleLimit. Clients wait for 10 minutes after their dot
	// (RFC 5321 §4.5.3.2.6; Postfix smtp_data_done_timeout). Who gives up before the hop
	// has answered causes a duplicate for each try of the client (RFC 1047).
	answerLimit = 9*time.Minute + 30*time.Second
	// afterLimit is for what a mail's end leaves to do, of the last 30 s.
	afterLimit = 10 * time.Second
	// maxReceived is where a mail counts as looping (RFC 5321 §6.3).
	maxReceived = 50
)

// Scanner looks into a mail. A failure is an engine without an answer in the
// report, never an error: what is not known is not clean.
type Scanner interface {
	Scan(ctx context.Context, job scanner.Job) (policy.Report, *content.Content)
	// Judge adds to a report what the mail's content and sender mean together.
	Judge(ctx context.Context, q scanner.Question, rep *policy.Report)
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
	MaxConnections    int   // at a time; more are answered 421; default 1000
	Limits            bool  // pipelining against the rules ends a session
	TLS               *tls.Config
	OutboundFrom      []netip.Prefix // clients that may relay to anywhere; nobody else may
	AnySender         bool           // they may do so in the name of domains that are not ours
	ProxyFrom         []netip.Prefix // clients that must send a PROXY header, and are believed
	XForwardFrom      []netip.Prefix // clients whose XFORWARD is believed
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
	Queue      *queue.Queue
	Hops       *hop.Sender           // hands mail over; whoever made it closes it
	Guard      *limit.Guard          // who may connect, and how much they may send; nil: anybody, anything
	Recipients *limit.Recipients     // asks next hops about recipients; nil: nobody is asked
	Lists      *limit.Lists          // recipients of domains that have a list; nil: none has
	History    *history.Store        // whom a workspace has had mail from; nil: everybody is unknown
	Auth       AuthChecker           // may be nil: nothing is checked
	Signer     Signer                // may be nil: nothing is signed
	Metrics    prometheus.Registerer // may be nil
	Counter    Counter               // for alerts; may be nil
}

// limits are handleLimit and answerLimit, or what a test has in their place.
type limits struct{ handle, answer time.Duration }

// Server takes mail in.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	smtp    *smtp.Server
	lmtp    *smtp.Server
	slots   chan struct{} // one for each connection
	limits  limits
	base    context.Context // ends when the server is closed hard
	cancel  context.CancelFunc

	mu       sync.Mutex     // guards sessions, closing
	sessions map[*wire]bool // all connections, also those that have said nothing yet
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
	if deps.Counter == nil {
		deps.Counter = deaf{}
	}
	s := &Server{cfg: cfg, deps: deps, log: deps.Log, metrics: newMetrics(deps.Metrics), sessions: map[*wire]bool{},
		slots: make(chan struct{}, cfg.MaxConnections), limits: limits{handleLimit, answerLimit}}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.smtp, s.lmtp = s.protocol(false), s.protocol(true)
	return s, nil
}

// protocol is go-smtp for one of our two protocols. Times, sizes, TLS and what
// EHLO offers are the wire's, so go-smtp gets none of them.
func (s *Server) protocol(lmtp bool) *smtp.Server {
	srv := smtp.NewServer(smtp.BackendFunc(s.newSession))
	srv.Domain, srv.LMTP = s.cfg.Hostname, lmtp
	srv.MaxRecipients = s.cfg.MaxRecipients
	srv.MaxLineLength = 0
	srv.EnableSMTPUTF8, srv.EnableDSN = true, true
	srv.ErrorLog = smtpLog{s.log}
	return srv
}

// Serve takes SMTP connections until the server is shut down.
func (s *Server) Serve(l net.Listener) error { return s.serve(l, s.smtp) }

// ServeLMTP does the same for LMTP (RFC 2033), which has a reply for each
// recipient: for mail servers that give us their mail after queueing it.
func (s *Server) ServeLMTP(l net.Listener) error { return s.serve(l, s.lmtp) }

func (s *Server) serve(l net.Listener, srv *smtp.Server) error {
	name := l.Addr()
	if len(s.cfg.ProxyFrom) > 0 {
		l = &proxyproto.Listener{Listener: l, ReadHeaderTimeout: 10 * time.Second, ConnPolicy: s.proxyPolicy}
	}
	l = &edgeListener{Listener: l, srv: s, opt: &wireOptions{hostname: s.cfg.Hostname, lmtp: srv.LMTP, tls: s.cfg.TLS, strict: s.cfg.Limits && !srv.LMTP,
		bad: s.badCommand, greet: s.greet, features: s.features, patience: s.patience, largest: s.cfg.MaxMessageSize, forwards: s.mayForward, closing: s.isClosing}}
	if err := srv.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve mail on %s: %w", name, err)
	}
	return nil
}

// edgeListener gives each connection a slot, or says that there is none: a
// client that hears 421 tries again, one that hears nothing waits.
type edgeListener struct {
	net.Listener
	srv *Server
	opt *wireOptions
}

// Accept implements [net.Listener].
func (l *edgeListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.srv.slots <- struct{}{}:
			if w, ok := l.srv.enter(c, l.opt); ok {
				return w, nil
			}
		default:
			if pc, ok := c.(*proxyproto.Conn); ok {
				c = pc.Raw() // It does not write before it has read the header, and nobody waits for that here.
			}
			c.SetDeadline(time.Now().Add(100 * time.Millisecond))
			io.WriteString(c, replyFor(errCrowded).line())
			c.Close()
		}
	}
}

// enter makes a connection known that has a slot, which it gives back when it
// ends. While we shut down it ends at once.
func (s *Server) enter(c net.Conn, opt *wireOptions) (w *wire, ok bool) {
	w = newWire(c, opt, func() {
		s.mu.Lock()
		delete(s.sessions, w)
		s.mu.Unlock()
		<-s.slots
	})
	s.mu.Lock()
	closing := s.closing
	if !closing {
		s.sessions[w] = true
	}
	s.mu.Unlock()
	if closing {
		w.Close()
	}
	return w, !closing
}

// patience is how long a client may be silent: RFC 5321 §4.5.3.2.7 says 5 minutes,
// but who holds one of the last connections gets less.
func (s *Server) patience() time.Duration {
	if len(s.slots)*5 > cap(s.slots)*4 {
		return stressTimeout
	}
	return commandTimeout
}

// proxyPolicy demands a PROXY header from the upstreams that are named. From
// everybody else it is no SMTP: it could claim any address.
func (s *Server) proxyPolicy(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	ap, err := netip.ParseAddrPort(o.Upstream.String())
	if err == nil && slices.ContainsFunc(s.cfg.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(ap.Addr().Unmap()) }) {
		return proxyproto.REQUIRE, nil
	}
	return proxyproto.SKIP, nil
}

// Shutdown stops taking mail, lets the transactions under way finish, and ends
// idle sessions with 421. After ctx ends it breaks off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	open := slices.Collect(maps.Keys(s.sessions))
	s.mu.Unlock()
	var goodbyes sync.WaitGroup
	for _, w := range open {
		goodbyes.Go(w.hangUpIfIdle) // one that reads nothing takes a second
	}
	err := errors.Join(s.smtp.Shutdown(ctx), s.lmtp.Shutdown(ctx))
	s.Close()
	goodbyes.Wait()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("shut SMTP down: %w", err)
	}
	return nil
}

// Close breaks everything off at once.
func (s *Server) Close() {
	s.cancel()
	s.smtp.Close()
	s.lmtp.Close()
}

// smtpLog sends go-smtp's own lines to our log.
type smtpLog struct{ log *slog.Logger }

func (l smtpLog) Printf(format string, v ...any) { l.log.Debug("smtp: " + fmt.Sprintf(format, v...)) }
func (l smtpLog) Println(v ...any)               { l.log.Debug("smtp: " + fmt.Sprint(v...)) }
