package hop

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// TLSMode says how much a route insists on TLS.
type TLSMode string

// mxPrefix is how a route to the MX of a domain begins.
const mxPrefix = "mx:"

// The modes. Without one, a route takes TLS where it is offered, and does
// without towards the loopback, where nobody listens in between.
const (
	TLSNone    TLSMode = "none"    // never
	TLSMay     TLSMode = "may"     // where it is offered and works (RFC 7435)
	TLSRequire TLSMode = "require" // or no mail, whoever the host is
	TLSVerify  TLSMode = "verify"  // or no mail, and the host proves who it is
)

// Host is one server of a route. Those of lower Priority are tried first, those
// of equal Priority share the mail.
type Host struct {
	Address  string // host:port
	Priority int
}

// Auth is what we log in with at a hop.
type Auth struct {
	User, Password string
	Mechanism      string // SCRAM-SHA-256, PLAIN, LOGIN; "": the best that is offered
	Clear          bool   // also without TLS
}

// Timeouts are how long a hop may take. Zero: the defaults.
type Timeouts struct {
	Connect time.Duration // the connection. Default: 10s, 30s for who is patient
	Reply   time.Duration // one reply before the mail. Default: 30s, what RFC 5321 asks for to who is patient
	Final   time.Duration // the reply to the final dot. Default: until [Transfer.DotBy], 10m for who is patient
}

// times are how long each step of a transfer may take. final is 0 where the reply is
// due when the dot is.
type times struct{ connect, greeting, command, data, block, final time.Duration }

// finalLimit is for the reply to the final dot (RFC 5321 §4.5.3.2.6).
const finalLimit = 10 * time.Minute

// steps are the times of RFC 5321 §4.5.3.2, but for a sender whose own client
// waits: until the mail begins to go out, another host can still take it, which
// it must hear of in time.
func (t Timeouts) steps(patient bool) times {
	s := times{connect: 30 * time.Second, greeting: 5 * time.Minute, command: 5 * time.Minute, data: 2 * time.Minute, block: 3 * time.Minute, final: finalLimit}
	if !patient {
		s.connect, s.greeting, s.command, s.data, s.final = 10*time.Second, 30*time.Second, 30*time.Second, 30*time.Second, 0
	}
	if t.Connect > 0 {
		s.connect = t.Connect
	}
	if t.Reply > 0 {
		s.greeting, s.command, s.data = t.Reply, t.Reply, t.Reply
	}
	if t.Final > 0 {
		s.final = t.Final
	}
	return s
}

// Route is where mail goes and how. Zero values are the defaults.
type Route struct {
	Hosts        []Host
	TLS          TLSMode
	Roots        *x509.CertPool      // who may sign the host's certificate; nil: the system's
	Fingerprints [][sha256.Size]byte // of the certificate or its public key: one of them is proof enough
	ServerName   string              // the name in the certificate. Default: the host's
	Auth         *Auth
	Bind         netip.Addr // the address that we connect from
	XForward     bool       // tell the host of the mail's client, if it takes XFORWARD

	MaxConnections        int           // to one host at a time. Default: 40
	MaxMailsPerConnection int           // Default: 100
	MaxMailsPerMinute     int           // to one host; 0: no limit
	Idle                  time.Duration // how long an unused connection is kept. Default: 10s
	Timeouts              Timeouts
}

// Config says how we deliver.
type Config struct {
	Hostname string           // what we call ourselves in EHLO
	Routes   map[string]Route // by name; a name has no colon
	Shelf    Shelf            // nil: a restart forgets what was learned

	// For mx: routes.
	DNS          Resolver // nil: no mx: routes
	Direct       Route    // TLS, limits, times and bind address; its hosts come from DNS
	AllowPrivate bool     // connect also where no mail server of the world can be
	Port         string   // Default: 25
	HTTP         *http.Client
}

func (c Config) withDefaults() Config {
	routes := map[string]Route{}
	for name, r := range c.Routes {
		routes[name] = r.withDefaults()
	}
	c.Routes = routes
	if c.Direct.MaxConnections == 0 {
		c.Direct.MaxConnections = 20 // a stranger's server
	}
	c.Direct = c.Direct.withDefaults()
	if c.Port == "" {
		c.Port = "25"
	}
	return c
}

func orElse[T comparable](v *T, other T) {
	var zero T
	if *v == zero {
		*v = other
	}
}

func (r Route) withDefaults() Route {
	orElse(&r.MaxConnections, 40) // Postfix takes 50 of one client, and answers 421 beyond (smtpd_client_connection_count_limit)
	orElse(&r.MaxMailsPerConnection, 100)
	orElse(&r.Idle, 10*time.Second)
	r.Hosts = slices.Clone(r.Hosts)
	slices.SortStableFunc(r.Hosts, func(a, b Host) int { return a.Priority - b.Priority })
	return r
}

// endpoint is one host to try, and how.
type endpoint struct {
	key    string // connections with the same key are as good as each other
	addr   string // host:port
	route  *Route
	demand demand
	times  times
}

// listed gives the hosts of a route that stand in the configuration or in the
// route itself, in the order of this mail.
func (s *settings) listed(route string) ([]endpoint, error) {
	r, named := s.Routes[route]
	if !named {
		var err error
		if r, err = parseHosts(route); err != nil {
			return nil, err
		}
	}
	list := make([]endpoint, 0, len(r.Hosts))
	for _, h := range r.Hosts {
		ep := endpoint{key: h.Address, addr: h.Address, route: &r, demand: r.demand(h.Address), times: r.Timeouts.steps(false)}
		if named {
			ep.key = route + " " + h.Address
		}
		list = append(list, ep)
	}
	for i := 0; i < len(list); {
		j := i + 1
		for j < len(list) && r.Hosts[j].Priority == r.Hosts[i].Priority {
			j++
		}
		same := list[i:j]
		rand.Shuffle(len(same), func(a, b int) { same[a], same[b] = same[b], same[a] })
		i = j
	}
	return list, nil
}

// demand is what the route wants of a host's TLS.
func (r *Route) demand(addr string) demand {
	host, _, _ := net.SplitHostPort(addr)
	d := demand{mode: r.TLS, name: host, roots: r.Roots, pins: r.Fingerprints}
	if r.ServerName != "" {
		d.name = r.ServerName
	}
	if d.mode == "" {
		d.mode = TLSMay
		if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
			d.mode = TLSNone
		}
	}
	return d
}

// parseHosts reads a route that is no name.
func parseHosts(route string) (Route, error) {
	var r Route
	for i, h := range strings.Split(route, ",") {
		h = strings.TrimSpace(h)
		if host, port, err := net.SplitHostPort(h); err != nil || host == "" || port == "" {
			return Route{}, fmt.Errorf("%w: %s", ErrNoRoute, Harmless(route, 100))
		}
		r.Hosts = append(r.Hosts, Host{Address: h, Priority: i})
	}
	return r.withDefaults(), nil
}
